"""ComfyUI's entry into this pack: it reads the two names below."""

from .nodes import NODE_CLASS_MAPPINGS as NODE_CLASS_MAPPINGS
from .nodes import NODE_DISPLAY_NAME_MAPPINGS as NODE_DISPLAY_NAME_MAPPINGS
