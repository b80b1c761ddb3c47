"""Find the application that a command was given as `module:attribute`."""

import importlib
import os
import sys

from holdfast.app import Holdfast
from holdfast.errors import AppLoadError


def load_app(reference: str) -> Holdfast:
    """Import `module:attribute` (attribute `hf` by default), the current folder included.

    Raises `AppLoadError` with what is wrong: no such module, an error inside it, no such attribute, not a Holdfast.
    """
    module_name, _, attribute = reference.partition(":")
    attribute = attribute or "hf"
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (error.name == module_name or module_name.startswith(f"{error.name}.")):
            raise AppLoadError(
                f"there is no module {module_name!r} here; give --app as module:attribute, for example tasks:hf"
            ) from error
        raise AppLoadError(f"module {module_name!r} needs {error.name!r}, which is not installed") from error
    except Exception as error:
        raise AppLoadError(f"module {module_name!r} fails when imported: {type(error).__name__}: {error}") from error
    if not hasattr(module, attribute):
        found = sorted(name for name, value in vars(module).items() if isinstance(value, Holdfast))
        advice = f"it has {', '.join(found)}" if found else "it holds no Holdfast object"
        raise AppLoadError(f"module {module_name!r} has no {attribute!r}; {advice}")
    app = getattr(module, attribute)
    if not isinstance(app, Holdfast):
        raise AppLoadError(f"{module_name}:{attribute} is a {type(app).__name__}, not a Holdfast")
    return app
