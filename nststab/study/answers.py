"""The answers of a study, in SQLite as soon as they are given; and the codes that bring them from elsewhere."""

import errno
import re
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from nststab.errors import NststabError
from nststab.study.design import Study, read_study

FILE = "answers.sqlite"
_DURABLE = "FULL"  # also where the machine is lost just after
CHOICES = "asb"  # the clip on the left, about the same, the clip on the right
_SCHEMA = """
CREATE TABLE IF NOT EXISTS people (
    person TEXT PRIMARY KEY,   -- random
    sheet INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS answers (
    person TEXT NOT NULL REFERENCES people,
    trial INTEGER NOT NULL,
    swapped INTEGER NOT NULL,  -- whether the second clip was on the left
    choices TEXT NOT NULL,     -- a letter for each question: a the left, b the right, s about the same
    seconds REAL NOT NULL,     -- from the first frame to the answer
    replays INTEGER NOT NULL,  -- after the first time
    PRIMARY KEY (person, trial)
);
"""
_CODE = re.compile(r"nststab1\.([0-9a-f]+)\.([0-9a-f]{16})\.(\d{1,9})\.([asb0-9~_]*)\.([0-9a-f]{8})(?![0-9a-f])")
_LONGEST = 10**9  # milliseconds, or replays


class Answer(NamedTuple):
    """What one person said of one trial: `choices` are of `CHOICES`, one for each question of the study."""

    person: str
    trial: int
    swapped: bool
    choices: str
    seconds: float
    replays: int

    def chosen(self, question: int) -> int:
        """0 the trial's first clip, 1 its second, 2 about the same."""
        choice = "ab".find(self.choices[question])
        return 2 if choice < 0 else choice ^ self.swapped


class AnsweredTwice(NststabError):
    """A pair has an answer of this person already, another one: it stays."""


class Answers:
    """The answers in a study's folder; processes and threads may share it, each opens its own.

    Raises OSError where the file cannot be written or is damaged.
    """

    def __init__(self, folder: str | Path, study: Study) -> None:
        self._path, self._study = Path(folder) / FILE, study
        with self._open() as database:
            database.executescript(_SCHEMA)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path, timeout=30)) as database, database:
                database.execute(f"PRAGMA synchronous = {_DURABLE}")
                yield database
        except sqlite3.DatabaseError as error:
            raise OSError(errno.EIO, str(error), str(self._path)) from error

    def begin(self) -> str:
        """The random number of a new person, who gets the sheet that the fewest have."""
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            taken = dict(database.execute("SELECT sheet, COUNT(*) FROM people GROUP BY sheet"))
            sheet = min(range(len(self._study.sheets)), key=lambda number: (taken.get(number, 0), number))
            person = secrets.token_hex(8)
            database.execute("INSERT INTO people VALUES (?, ?)", (person, sheet))
        return person

    def sheet_of(self, person: str) -> int | None:
        """The number of a person's sheet, None where there is no such person."""
        with self._open() as database:
            found = database.execute("SELECT sheet FROM people WHERE person = ?", (person,)).fetchone()
        return None if found is None else int(found[0])

    def trials_of(self, person: str) -> set[int]:
        """The trials that a person has answered."""
        with self._open() as database:
            return {trial for (trial,) in database.execute("SELECT trial FROM answers WHERE person = ?", (person,))}

    def add(self, person: str, place: int, choices: str, milliseconds: int, replays: int) -> None:
        """Keeps what a person says of the pair at `place` of the sheet.

        Raises AnsweredTwice where there is an answer already, NststabError where this is none.
        """
        sheet = self.sheet_of(person)
        if sheet is None:
            raise NststabError("there is no such person")
        self._insert([_answer(self._study, person, sheet, place, choices, milliseconds, replays)])

    def take(self, code: str) -> int:
        """Keeps the answers of a code that a packed study gave, and says how many of them are new.

        Raises NststabError where the code is damaged, another study's, or says something else than what was kept.
        """
        match = _CODE.fullmatch(code)
        if match is None or check(code[: match.start(5) - 1]) != match[5]:
            raise NststabError("the code is damaged: a part of it is missing or was changed")
        identity, person, sheet = match[1], match[2], int(match[3])
        if identity != self._study.id:
            raise NststabError("the code belongs to another study")
        if sheet >= len(self._study.sheets):
            raise NststabError(f"the code names sheet {sheet}, which there is not")
        answers = [
            _answer(self._study, person, sheet, place, *_said(text))
            for place, text in enumerate(match[4].split("~"))
            if text
        ]
        if self.sheet_of(person) not in (None, sheet):
            raise NststabError("the code says another sheet of this person than what was kept")
        return self._insert(answers, (person, sheet))

    def _insert(self, answers: Sequence[Answer], of_code: tuple[str, int] | None = None) -> int:
        """All of them or none, with the person and sheet of a code, whose answers may be kept already if they agree."""
        new = 0
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            if of_code is not None:
                database.execute("INSERT OR IGNORE INTO people VALUES (?, ?)", of_code)
            for one in answers:
                query = "SELECT choices, seconds, replays FROM answers WHERE person = ? AND trial = ?"
                kept = database.execute(query, one[:2]).fetchone()
                if kept is None:
                    database.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?)", one)
                    new += 1
                elif of_code is None or kept != one[3:]:
                    raise AnsweredTwice("this pair has an answer of this person already")
        return new

    def all(self) -> list[Answer]:
        """In the order in which they came."""
        query = "SELECT person, trial, swapped, choices, seconds, replays FROM answers ORDER BY rowid"
        with self._open() as database:
            return [Answer(row[0], row[1], bool(row[2]), *row[3:]) for row in database.execute(query)]


def _answer(study: Study, person: str, sheet: int, place: int, choices: str, milliseconds: int, replays: int) -> Answer:
    asked = len(study.questions)
    if not 0 <= place < len(study.sheets[sheet]):
        raise NststabError(f"there is no pair {place} on sheet {sheet}")
    if len(choices) != asked or not set(choices) <= set(CHOICES):
        raise NststabError(f"expected {asked} answers out of {', '.join(CHOICES)}, got {choices!r:.40}")
    if not 0 <= milliseconds <= _LONGEST or not 0 <= replays <= _LONGEST:
        raise NststabError("expected a time and a count from 0 on that can be true")
    trial, swapped = study.sheets[sheet][place]
    return Answer(person, trial, swapped, choices, milliseconds / 1000, replays)


def _said(text: str) -> tuple[str, int, int]:
    """Choices, milliseconds and replays of an answer in a code, as in `abs_5230_1`."""
    match = re.fullmatch(r"([^_]*)_(\d{1,10})_(\d{1,10})", text)
    if match is None:
        raise NststabError("the code is damaged: it holds something that is no answer")
    return match[1], int(match[2]), int(match[3])


def check(text: str) -> str:
    """Eight digits that change with the text, FNV-1a: page/store.js reckons the same. They find slips, not fraud."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 % 2**32
    return f"{value:08x}"


def codes_in(text: str) -> list[str]:
    """What looks like a code in a text, which may be a table of a crowd platform, each once; also damaged ones."""
    return list(dict.fromkeys(code.rstrip(".~-") for code in re.findall(r"nststab1\.[\w.~-]+", text)))


def count_people(folder: str | Path) -> int:
    """How many have answered anything in a study's folder."""
    path = Path(folder) / FILE
    if not path.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            return int(database.execute("SELECT COUNT(DISTINCT person) FROM answers").fetchone()[0])
    except sqlite3.DatabaseError as error:
        raise OSError(errno.EIO, str(error), str(path)) from error


class Collected(NamedTuple):
    """What codes brought: how many codes, answers that are new, and what was wrong with the others, a line each."""

    codes: int
    new: int
    refused: list[str]


def collect(folder: str | Path, given: Sequence[str | Path]) -> Collected:
    """Keeps the answers of codes that a packed study gave: codes as they are, or files with codes anywhere in them.

    A code that was taken before adds nothing. Raises NststabError where something given is neither a file nor a code.
    """
    study = read_study(folder)
    answers = Answers(folder, study)
    codes: list[str] = []
    for one in given:
        text = Path(one).read_text("utf-8", "replace") if is_file(one) else str(one)
        found = codes_in(text)
        if not found:
            raise NststabError(f"{str(one)[:60]}: expected a code (nststab1...), or a file with codes")
        codes += found
    new, refused = 0, []
    for code in dict.fromkeys(codes):
        try:
            new += answers.take(code)
        except NststabError as error:
            refused.append(f"{code[:45]}...: {error}")
    return Collected(len(dict.fromkeys(codes)), new, refused)


def is_file(given: str | Path) -> bool:
    """Whether it names a file; a code may be longer than any name."""
    try:
        return Path(given).is_file()
    except OSError:
        return False
