# shellcheck shell=bash
#
# Set-up shared by tests/run, examples/quickstart and .ci/run: a Python, a virtual environment, the project
# installed in it. To be sourced; defines functions and runs nothing.
#
#     choose_build compiled                      # or pure, or sanitized: sets $build, to what can be made here
#     find_brokers 3.10                          # installs RabbitMQ if need be; sets $brokers (rabbit/node.py)
#     prepare "$build" tests,eventlet,kombu      # makes the environment $venv, with these extras ('' = none)
#     "$venv/bin/python" …
#
# In this order, so that what cannot be had here is said before anything is built.
#
# What it keeps to:
#   * nothing is written into the source tree but .venv/. The project is built from a copy of its sources in
#     .venv/<build>.src, and never in place: a .so beside an edited .py would silently shadow it;
#   * when nothing changed since the last run it ends in a fraction of a second; when only gamqp/ changed it
#     installs again without asking any index, and compiles only the modules that changed;
#   * several runs in one checkout do not disturb each other: a run holds a lock (shared) on its environment
#     until it ends, and one that has to change it waits for those that use it;
#   * Ctrl-C ends the script with one line, whatever was being installed;
#   * the machine's own pip and apt settings are used as they are.

# What the tests need, and what all of them need: the programs of others that gamqp is put into.
# shellcheck disable=SC2034 # for the caller
test_extras=tests,eventlet,kombu
# shellcheck disable=SC2034
all_extras=$test_extras,integrations

# The checkout, wherever we were called from.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

# No __pycache__ in the source tree. (pip compiles what it installs all the same.)
export PYTHONDONTWRITEBYTECODE=1
export PIP_DISABLE_PIP_VERSION_CHECK=1
# It would come before the environment, and perhaps with another gamqp.
unset PYTHONPATH

say() {
    printf '%s\n' "$*" >&2
}

die() {
    say "error: $*"
    exit 3
}

# Ctrl-C goes to what runs in the foreground too, and bash calls this when that has ended. Without it the script
# would take the end of apt-get or pip for a failure, say so, and perhaps go on.
interrupted() {
    rm -f "$log"
    say 'interrupted'
    exit 130
}
log=

# Run a command that says much, and show what it said only if it fails.
quietly() {
    local status=0
    log=$(mktemp)
    # In a subshell: what is said when it is interrupted is not to go to the log.
    ("$@") >"$log" 2>&1 </dev/null || status=$?
    [ $status = 0 ] || tail -n 30 "$log" >&2
    rm -f "$log"
    return $status
}

# -- the machine ---------------------------------------------------------------------------------------------

# Run a command as root; fails when that cannot be had without asking for a password.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        command -v sudo >/dev/null && sudo -n true 2>/dev/null && sudo -n -- "$@"
    fi
}

# Install Debian packages; fails, after saying so, where that is not possible.
apt_install() {
    command -v apt-get >/dev/null && as_root true || return 1
    say "setup: installing $* (apt-get)"
    if quietly apt_get update && quietly apt_get -y install --no-install-recommends "$@"; then
        return 0
    fi
    say "setup: apt-get could not install $*"
    return 1
}

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@"
}

# Can this Python make our environments: 3.10 or newer, with venv and pip's wheel?
usable() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1
}

# Set $python, installing one if need be. PYTHON in the environment is the user's own choice.
find_python() {
    local name
    if [ -n "${PYTHON:-}" ]; then
        usable "$PYTHON" || die "PYTHON=$PYTHON is not a Python 3.10 or newer with the modules venv and ensurepip"
        python=$PYTHON
        return
    fi
    for name in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
        if usable "$name"; then
            python=$name
            return
        fi
    done
    if apt_install python3 python3-venv python3-dev && usable python3; then
        python=python3
        return
    fi
    die "Python 3.10 or newer with venv is needed (Debian and Ubuntu: apt-get install python3 python3-venv)," \
        "or PYTHON=/path/to/python"
}

# Is there all that it takes to compile an extension for $python?
can_compile() {
    local header program status=1
    header=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')/Python.h
    [ -e "$header" ] || return 1
    program=$(mktemp)
    # Up to the linker: a compiler can be there without the C library's files.
    printf '#include <stdio.h>\nint main(void) { return 0; }\n' |
        ${CC:-cc} -x c - -o "$program" >/dev/null 2>&1 && status=0
    rm -f "$program"
    return $status
}

# For the compiled build: a compiler and the headers of $python, installed if they are missing.
find_compiler() {
    # -dev packages are for the distribution's own Python; another brings its headers along.
    can_compile || { apt_install gcc libc6-dev python3-dev && can_compile; }
}

# Set $build to 'compiled', 'sanitized' or 'pure', and $python. Where nothing can be compiled the first becomes the
# last, with a note, unless GAMQP_CYTHON=1 says that it must not.
choose_build() {
    trap interrupted INT
    build=$1
    find_python
    if [ "$build" != pure ] && ! find_compiler; then
        if [ "${GAMQP_CYTHON:-}" = 1 ]; then
            die "GAMQP_CYTHON=1, but there is no C compiler with the headers of $python, and none can be installed"
        fi
        [ "$build" = compiled ] || die "there is no C compiler with the headers of $python, and none can be installed"
        say "NOTE: no C compiler with the headers of $python, and none can be installed: going on with the" \
            "pure Python build, which is slower"
        build=pure
    fi
    trap - INT
}

# For the build 'sanitized': the compiled modules, in which the address and undefined-behaviour sanitizers of the C
# compiler check each access to memory and each operation that C leaves undefined. Sets CFLAGS, and $checked: the words
# before a command that loads these modules.
#
#   -UNDEBUG -fno-wrapv        Python's own flags switch its assertions off, and let numbers overflow in silence
#   asan-stack=0               greenlets move their stacks, and the marks around variables would stay behind. On the
#                              stack no module has an array but those that Cython makes to pass arguments
#   PYTHONMALLOC=malloc        Python's own allocator would hide where one object ends and the next begins
#   redzone=128                the marks around an object are wider than usual, for what is far out of it
#   allocator_may_return_null  what is too large is a MemoryError, as without the sanitizers
#   log_path                   pytest keeps what a process says, and loses it when that is killed
#
# Leaks are not looked for: Python leaves much behind when it ends.
sanitize() { # FOLDER-FOR-REPORTS
    local probe libraries
    export CFLAGS='-O1 -g -UNDEBUG -fno-wrapv -fno-omit-frame-pointer --param asan-stack=0'
    CFLAGS+=' -fsanitize=address,undefined -fno-sanitize-recover=undefined'
    probe=$(mktemp)
    # shellcheck disable=SC2086 # flags are several words
    printf 'int main(void) { return 0; }\n' | ${CC:-cc} $CFLAGS -x c - -o "$probe" >/dev/null 2>&1 ||
        die "${CC:-cc} has no address and undefined-behaviour sanitizers (Debian's gcc has them)"
    # They must be there before Python is, which is not built with them, and greenlet's C++ before anything throws.
    libraries=$(LD_TRACE_LOADED_OBJECTS=1 "$probe" | awk '/lib(asan|ubsan|stdc\+\+)/ { printf "%s ", $3 }')
    rm -f "$probe"
    [ -n "$libraries" ] || die "${CC:-cc} has its sanitizers in programs only (gcc has them as libraries)"
    local both="abort_on_error=1:log_path=$1/report"
    # shellcheck disable=SC2034 # for the caller, too
    checked=(env "LD_PRELOAD=$libraries" PYTHONMALLOC=malloc
        "ASAN_OPTIONS=$both:redzone=128:allocator_may_return_null=1:detect_leaks=0:detect_stack_use_after_return=0"
        "UBSAN_OPTIONS=$both:print_stacktrace=1")
}
checked=()

# Install the RabbitMQ servers of a list as node.py takes it, if need be. Sets $brokers to those that can be had.
find_brokers() {
    trap interrupted INT
    # shellcheck disable=SC2034 # for the caller
    brokers=$("$python" "$root/tests/rabbit/node.py" install --rabbitmq "$1") || exit
    trap - INT
}

# Install redis-server, in which some tests of Celery keep results, if need be. Without it they are skipped.
find_redis() {
    trap interrupted INT
    "$python" "$root/tests/rabbit/install.py" || say 'NOTE: no redis-server: going on without the tests that need it'
    trap - INT
}

# -- the environment -----------------------------------------------------------------------------------------

# One lock per environment, on a descriptor that lives as long as the script; children that outlive it hold
# it on, which is right: they use the environment.
lock_environment() { # shared|exclusive
    local how=-s
    [ "$1" = shared ] || how=-x
    if ! flock -n $how "$lock_fd"; then
        say "setup: waiting for another run that uses .venv/$build"
        flock $how "$lock_fd"
    fi
}

# A digest of the files named on standard input, one per line, by name and content.
digest() {
    (cd "$root" && LC_ALL=C sort | xargs -r -d '\n' sha256sum 2>/dev/null | sha256sum | cut -d ' ' -f 1)
}

# The files that make the package, relative to the checkout. Those above gamqp/ may not all exist.
package_files() {
    (cd "$root" && find gamqp gamqp_pytest.py -type f \( -name '*.py' -o -name '*.pyi' -o -name '*.pxd' -o -name '*.typed' \))
}
metadata_files() {
    local name
    for name in setup.py setup.cfg pyproject.toml MANIFEST.in README.rst CHANGES.rst LICENSE; do
        [ ! -e "$root/$name" ] || printf '%s\n' "$name"
    done
}

# What the environment depends on besides gamqp/ itself. README and the like go into the metadata of the
# package, but a word changed in them is no reason to resolve dependencies again: they count with the code.
environment_key() {
    printf '%s ' "$root" "$("$python" -c 'import sys; print(sys.prefix, *sys.version.split())')" \
        "${CC:-}" "${CFLAGS:-}" "$(metadata_files | grep -v -e README -e CHANGES -e LICENSE | digest)"
}

# Bring $source in line with the checkout by content, whatever the times of the files say: only what differs
# is written, so a file newer there than what was made of it has changed, and one that is not has not.
copy_sources() {
    local name
    mkdir -p "$source"
    while IFS= read -r name; do
        cmp -s "$root/$name" "$source/$name" && continue
        mkdir -p "$source/$(dirname "$name")"
        cp "$root/$name" "$source/$name"
    done < <(metadata_files; package_files)
    # Removed from the checkout: remove it, and everything that was made of it. (setuptools would go on
    # installing what it finds in build/lib.)
    local stem
    while IFS= read -r name; do
        stem=${name#"$source"/}
        stem=${stem#build/lib*/}
        case $stem in
            # made of a .py of the same name: foo.c, foo.cpython-….so
            *.c | *.so) stem=${stem%/*}/$(basename "$stem" | cut -d . -f 1).py ;;
        esac
        [ -e "$root/$stem" ] || rm -f "$name"
    done < <(find "$source/gamqp" "$source"/build/lib* -type f 2>/dev/null)
}

# Install the project itself from $source. Further words go to pip.
install_project() {
    local cython=0
    [ "$build" = pure ] || cython=1
    GAMQP_CYTHON=$cython pip_install --no-build-isolation "$@"
    rm -rf "$source"/*.egg-info
}

pip_install() {
    quietly "$venv/bin/python" -m pip install --quiet --no-input "$@" || die "pip install $* failed (see above)"
}

# What is needed to build: as pyproject.toml says. Installed in the environment itself, because an isolated
# build would fetch it anew each time.
build_requirements() {
    "$venv/bin/python" - "$root/pyproject.toml" <<'PYTHON'
import sys
try:
    import tomllib
except ImportError:  # Python 3.10
    from pip._vendor import tomli as tomllib
with open(sys.argv[1], 'rb') as file:
    print(*tomllib.load(file)['build-system']['requires'], 'wheel', sep='\n')
PYTHON
}

# Is every extra of $1 among those of $2 (both with commas)?
includes() {
    local extra
    for extra in ${1//,/ }; do
        [[ ",$2," == *",$extra,"* ]] || return 1
    done
}

# What there is to do: sets $todo to nothing, code, extras or everything. The stamp is three lines: the key of
# the environment, the extras in it, the digest of the code.
compare() {
    local stamped=()
    [ ! -e "$stamp" ] || mapfile -t stamped <"$stamp"
    installed_extras=${stamped[1]:-}
    if [ "${stamped[0]:-}" != "$key" ]; then
        todo=everything
    elif ! includes "$extras" "$installed_extras"; then
        todo=extras
    elif [ "${stamped[2]:-}" != "$code" ]; then
        todo=code
    else
        todo=nothing
    fi
}

install_everything() {
    say "setup: making .venv/$build (the $build build${extras:+, with $extras})"
    rm -rf "$venv" "$source"
    quietly "$python" -m venv "$venv" || die "$python could not make a virtual environment (see above)"
    local requirements
    requirements=$(build_requirements) || die "pyproject.toml has no [build-system] requires"
    mapfile -t requirements <<<"$requirements"
    pip_install "${requirements[@]}"
    copy_sources
    install_project "$source${extras:+[$extras]}"
    installed_extras=$extras
}

install_extras() {
    say "setup: adding $extras to .venv/$build"
    copy_sources
    install_project "${source}[$extras]"
    installed_extras=${installed_extras:+$installed_extras,}$extras
}

install_code() {
    say "setup: installing what changed (the $build build)"
    copy_sources
    install_project --no-deps --force-reinstall "$source"
}

# Make an environment; see the head of this file. Sets $build, $venv, $python.
prepare() {
    choose_build "$1"
    trap interrupted INT
    extras=${2:-}
    venv=$root/.venv/$build
    source=$venv.src
    stamp=$venv.stamp
    mkdir -p "$root/.venv"
    exec {lock_fd}>"$venv.lock"
    lock_environment shared
    key=$(environment_key)
    code=$({ metadata_files; package_files; } | digest)
    compare
    if [ $todo != nothing ]; then
        lock_environment exclusive
        compare # another run may have done it while we waited
    fi
    if [ $todo != nothing ]; then
        # If this fails: is the environment lost with it, or only the code to be installed again?
        if [ $todo = everything ]; then rm -f "$stamp"; else printf '%s\n' "$key" "$installed_extras" >"$stamp"; fi
        "install_$todo"
        check_build
        printf '%s\n' "$key" "$installed_extras" "$code" >"$stamp"
    fi
    lock_environment shared
    trap - INT
}

# A compiled build must really be compiled, the pure one must not; whatever pip thought of it.
check_build() {
    local found
    found=$(cd / && env -u GAMQP_PURE_PYTHON "${checked[@]}" "$venv/bin/python" -c 'import gamqp.wire; print(bool(gamqp.wire.COMPILED))') ||
        die "the installed gamqp cannot be imported"
    case $build,$found in
        compiled,True | sanitized,True | pure,False) ;;
        *) die "the $build build says gamqp.wire.COMPILED = $found" ;;
    esac
}
