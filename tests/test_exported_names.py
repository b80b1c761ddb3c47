"""What `import holdfast` gives, and what it does not do."""

import inspect
import subprocess
import sys
import types

import holdfast

DO_NOTHING = """
import sys, threading
seen = []
sys.addaudithook(lambda event, args: seen.append((event, args)))
import holdfast
holdfast.Holdfast()
assert threading.active_count() == 1, threading.enumerate()
bad = [event for event, _ in seen if event.startswith(("socket.connect", "socket.bind", "subprocess.", "os.fork"))]
assert not bad, bad
written = [args for event, args in seen if event == "open" and args[1] and set(str(args[1])) & set("wax+")]
assert not [args for args in written if "__pycache__" not in str(args[0])], written
"""


def test_all_is_exactly_what_is_public() -> None:
    assert all(hasattr(holdfast, name) for name in holdfast.__all__)
    public = {
        name
        for name, value in vars(holdfast).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType) and name != "TYPE_CHECKING"
    } - {"Any"}
    assert set(holdfast.__all__) == public
    assert list(holdfast.__all__) == sorted(holdfast.__all__)


def test_every_public_name_and_method_says_what_it_is_for() -> None:
    silent = []
    for name in holdfast.__all__:
        value = getattr(holdfast, name)
        if not value.__doc__:
            silent.append(name)
        if inspect.isclass(value):
            silent += [
                f"{name}.{attribute}"
                for attribute, member in vars(value).items()
                if not attribute.startswith("_")
                and (inspect.isroutine(member) or isinstance(member, property))
                and not inspect.getdoc(member)
            ]
    assert not silent


def test_every_error_is_a_holdfast_error() -> None:
    errors = [getattr(holdfast, name) for name in holdfast.__all__]
    errors = [each for each in errors if inspect.isclass(each) and issubclass(each, BaseException)]
    assert len(errors) >= 8
    assert all(issubclass(each, holdfast.HoldfastError) for each in errors)


def test_importing_starts_no_thread_opens_no_connection_and_writes_no_file() -> None:
    subprocess.run([sys.executable, "-c", DO_NOTHING], check=True)


#: What takes long to import, or is for other programs than the one that enqueues a job.
NOT_NEEDED_TO_ENQUEUE = {
    "cronsim", "dotenv", "fastapi", "httpx", "prometheus_client", "psycopg", "psycopg_pool", "pydantic_settings",
    "importlib.resources", "rich", "sqlalchemy", "starlette", "structlog", "tempfile", "typer", "uvicorn",
}  # fmt: skip

#: Some 250 with Python's own, of which asyncio and pydantic are most: under 150 ms on the machine that builds this. A
#: package that nobody thought of, imported by accident, brings more than the rest of this allowance.
MOST_MODULES = 300


def test_importing_imports_only_what_a_program_needs_to_define_jobs() -> None:
    """So `import holdfast` takes about an eighth of a second; psycopg alone would take as long again."""
    code = "import sys, holdfast; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert not loaded & NOT_NEEDED_TO_ENQUEUE
    ours = {name for name in loaded if name.startswith("holdfast.")}
    assert len(loaded) < MOST_MODULES, len(loaded)
    assert not {name for name in ours if name.startswith(("holdfast.cli", "holdfast.web", "holdfast.config"))}


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    assert not hasattr(holdfast, "no_such_name")
