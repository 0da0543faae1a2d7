# shellcheck shell=bash
# The other scripts source this: what we may do on Debian and Ubuntu. ROOT is a prefix for the machine's
# paths, so that tests can show the scripts another machine.
ROOT=${EVALSET_SETUP_ROOT:-}

is_debian() {
    [ -r "$ROOT/etc/os-release" ] || return 1
    # shellcheck disable=SC1091
    (. "$ROOT/etc/os-release" && case " ${ID:-} ${ID_LIKE:-} " in
        *" debian "* | *" ubuntu "*) true ;;
        *) false ;;
    esac)
}

is_root() { [ "$(id -u)" = 0 ]; }

# Uses sudo only if it asks for no password: a script must not wait for one.
may_be_root() { is_root || sudo -n true 2>/dev/null; }

as_root() {
    if is_root; then "$@"; else sudo -n "$@"; fi
}

may_install() { is_debian && command -v apt-get >/dev/null && may_be_root; }

# The package lists may be missing or older than the mirror. They are fetched only if an install fails.
install_packages() {
    echo "installing Debian packages: $*"
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0)
    local log
    log=$(mktemp)
    if ! as_root "${apt[@]}" install -y --no-install-recommends "$@" >"$log" 2>&1; then
        as_root "${apt[@]}" update >"$log" 2>&1 || true
        if ! as_root "${apt[@]}" install -y --no-install-recommends "$@" >>"$log" 2>&1; then
            tail -n 5 "$log" >&2
            rm -f "$log"
            return 1
        fi
    fi
    rm -f "$log"
}
