"""What a user can mend; anything else that is raised is a fault of ours."""


class NststabError(ValueError):
    """An input, an output or a state of files that the caller can mend; its message is one line that says how."""


class SettingError(NststabError):
    """A setting that is wrong, or that contradicts another one."""


class MissingFile(NststabError, FileNotFoundError):
    """A file or folder that was named and is not there."""


class MissingFolder(SettingError, MissingFile):
    """The folder in which an output would stand is not there."""
