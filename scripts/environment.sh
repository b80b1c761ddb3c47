# Sourced by ./run and ./test with $root set to the top of the checkout.
#
# prepare_environment leaves a usable virtual environment in $venv, holding exactly what
# requirements.lock lists and the project itself, editable. A stamp inside it remembers what it
# was made from, so a call that has nothing to do costs two checksums.
#
# Runs that start at once take turns (flock, or a folder as the lock where there is no flock),
# and whoever waited finds the work done. A setup that was killed leaves no stamp: it starts again.

venv=$root/.venv
stamp=$venv/.holdfast-stamp    # written last: what the finished environment was made from
mark=$venv/.holdfast-made      # written first, with the path: this folder is ours to delete and make again

prepare_environment() {
    environment_is_fresh && return 0
    if [ ! -w "$root" ] || { [ -d "$venv" ] && [ ! -w "$venv" ]; }; then
        complain "$venv must be made or refreshed, and $(id -un) may not write there: use a copy of the checkout of your own"
        return 1
    fi
    with_lock "$root/.venv.lock" make_environment
}

environment_is_fresh() {
    [ -x "$venv/bin/python" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(fingerprint)" ]
}

# The path is part of it: the scripts of a virtual environment name the folder they were made in.
fingerprint() {
    { printf '%s\n' "$root"; cat "$root/pyproject.toml" "$root/requirements.lock"; } | cksum
}

make_environment() {
    environment_is_fresh && return 0    # another run made it while this one waited
    if [ -f "$stamp" ]; then
        say "Refreshing the environment (its definition changed)…"
    else
        say "Setting up the environment (first run only)…"
    fi
    log=$(mktemp "${TMPDIR:-/tmp}/holdfast-setup.XXXXXX") || return 1
    if ! fill_environment >"$log" 2>&1; then
        problem=$(sed -n 's/^holdfast-problem: //p' "$log")
        if [ -n "$problem" ]; then
            complain "$problem"
            rm -f "$log"
        else
            tail -n 25 "$log" >&2
            complain "the environment could not be set up; the whole log is $log"
        fi
        return 1
    fi
    rm -f "$log"
}

# Called where the output goes to the log: problem() marks the line that the user sees instead of it.
fill_environment() {
    unset PIP_USER PIP_TARGET PIP_PREFIX PYTHONHOME
    made_from=$(fingerprint)
    can_be_refreshed || remove_own_environment || return 1
    rm -f "$stamp"
    if command -v uv >/dev/null 2>&1; then
        fill_with_uv || return 1
    else
        fill_with_pip || return 1
    fi
    printf '%s\n' "$made_from" >"$stamp"
}

can_be_refreshed() {
    [ -f "$stamp" ] && [ -x "$venv/bin/python" ] && { [ ! -f "$mark" ] || [ "$(cat "$mark")" = "$root" ]; }
}

remove_own_environment() {
    if [ -f "$mark" ]; then rm -rf "$venv"; fi
}

fill_with_uv() {
    if [ ! -x "$venv/bin/python" ]; then
        uv venv --no-project --python '>=3.11' "$venv" || return 1
        printf '%s\n' "$root" >"$mark"
    fi
    # An environment that somebody else made keeps what they put there.
    if [ -f "$mark" ]; then
        uv pip sync --python "$venv/bin/python" --require-hashes "$root/requirements.lock" || return 1
    else
        uv pip install --python "$venv/bin/python" --require-hashes --requirements "$root/requirements.lock" || return 1
    fi
    uv pip install --python "$venv/bin/python" --no-deps --no-build-isolation --editable "$root"
}

fill_with_pip() {
    if [ ! -x "$venv/bin/python" ]; then
        python=$(find_python) || return 1
        mkdir -p "$venv" && printf '%s\n' "$root" >"$mark" || return 1
        "$python" -m venv "$venv" || return 1
    elif ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
        "$venv/bin/python" -m ensurepip --upgrade || return 1
    fi
    pip_install --require-hashes --no-deps --requirement "$root/requirements.lock" &&
        pip_install --no-deps --no-build-isolation --editable "$root"
}

# prepare_ship_tools leaves in .tools/ship what builds and checks docs, charts and releases: requirements-ship.lock.
prepare_ship_tools() {
    ship=$root/.tools/ship
    wanted=$(cksum <"$root/requirements-ship.lock")
    if [ -f "$ship/.holdfast-stamp" ] && [ "$(cat "$ship/.holdfast-stamp")" = "$wanted" ]; then return 0; fi
    say "Setting up the tools for docs, charts and releases…"
    mkdir -p "$root/.tools"
    rm -rf "$ship"
    if command -v uv >/dev/null 2>&1; then
        uv venv --quiet --no-project --python "$venv/bin/python" "$ship" &&
            uv pip install --quiet --python "$ship/bin/python" --require-hashes --requirements "$root/requirements-ship.lock"
    else
        "$venv/bin/python" -m venv "$ship" &&
            "$ship/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --progress-bar off \
                --require-hashes --no-deps --requirement "$root/requirements-ship.lock"
    fi || { complain "the tools of requirements-ship.lock could not be installed"; return 1; }
    printf '%s\n' "$wanted" >"$ship/.holdfast-stamp"
}

pip_install() {
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off "$@"
}

# Names are tried by running them: a name on the PATH may be a shim for a version that is not installed.
find_python() {
    without_venv=
    for candidate in python3 python3.13 python3.12 python3.11 python3.14; do
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue
        if "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return 0
        fi
        without_venv=${without_venv:-$candidate}
    done
    if [ -z "$without_venv" ]; then
        problem "Python 3.11 or newer is needed and none was found on the PATH: install one, or uv, and run this again"
    elif command -v apt-get >/dev/null 2>&1; then
        version=$("$without_venv" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        problem "$without_venv cannot make virtual environments yet: $(as_root)apt-get install -y python$version-venv"
    else
        problem "$without_venv lacks the modules venv and ensurepip: install them with your package manager, or install uv"
    fi
    return 1
}

as_root() {
    if [ "$(id -u)" != 0 ]; then printf 'sudo '; fi
}

# with_lock LOCK COMMAND: runs COMMAND while no other process does so under the same LOCK.
with_lock() {
    if command -v flock >/dev/null 2>&1; then
        (
            flock -n 9 || { say "Waiting for another run that sets up the environment…"; flock 9; } || exit 1
            "$2"
        ) 9>"$1"
    else
        (
            take_folder_lock "$1.d"
            trap 'rm -rf "$1.d"' EXIT
            trap 'exit 130' INT
            trap 'exit 143' TERM
            "$2"
        )
    fi
}

# A holder that died left its folder behind. Who wants to clear it makes a folder inside it first,
# which only one can, and then looks again whether the holder is still the one seen dead.
take_folder_lock() {
    waited=0
    until mkdir "$1" 2>/dev/null; do
        holder=$(cat "$1/pid" 2>/dev/null || :)
        if ! is_alive "$holder" && mkdir "$1/clearing" 2>/dev/null; then
            if [ "$(cat "$1/pid" 2>/dev/null || :)" = "$holder" ]; then rm -rf "$1"; else rmdir "$1/clearing"; fi
            continue
        fi
        if [ "$waited" = 0 ]; then say "Waiting for another run that sets up the environment…"; fi
        waited=$((waited + 1))
        sleep 1
    done
    echo $$ >"$1/pid"
}

# No pid yet means that the holder is about to write it: it counts as dead after 10 looks.
is_alive() {
    if [ -z "$1" ]; then [ "$waited" -lt 10 ]; else ps -p "$1" >/dev/null 2>&1; fi
}

say() { printf '%s\n' "$*" >&2; }
complain() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
problem() { printf 'holdfast-problem: %s\n' "$*" >&2; }
