# shellcheck shell=bash
# Sourced by all commands beside it: sets up an environment in this checkout, on a machine that has only git
# and Python. Writes to stderr only, because stdout may carry a protocol. Sets $root and $venv. The version of
# everything that is installed is in scripts/pins (made by scripts/pin).

root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
venv=$root/.venv

# Usage: set_up run|test|check|bench
# The benchmarks have an environment of their own: what their peers pin must not decide what the product is
# tested with.
set_up() {
  [[ $1 != bench ]] || venv=$root/.venv-bench
  installed "$1" && return
  (
    # Two starts at once: the second waits here, and then finds everything done. The kernel frees
    # the lock with its holders, so a killed set-up leaves none behind.
    exec 9<"$root/scripts/_setup.sh"
    python=$(find_python)
    "$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
    installed "$1" || install "$1" "$python"
  ) </dev/null >&2
}

# The stamp says what was installed, from which files, and where: scripts in a venv name its path, so a
# checkout that was moved needs a new one.
stamp() {
  echo "$1 $root $(cd "$root" && cat pyproject.toml "scripts/pins/$1.txt" $(beside "$1") | cksum)"
}

# The tests run a FastMCP server with the oldest version, too, that the project allows: it lies in a directory
# of its own, in the environment, and a test puts it before the pinned one.
beside() {
  case $1 in
  test | check) echo scripts/pins/fastmcp-lowest.txt ;;
  esac
}

# What the checks need includes what the tests need, and that includes what users need.
installed() {
  local found larger
  [[ -x $venv/bin/python && -r $venv/stamp ]] || return 1
  found=$(<"$venv/stamp")
  case $1 in
  run) larger='run test check' ;;
  test) larger='test check' ;;
  *) larger=$1 ;;
  esac
  for larger in $larger; do
    [[ $found != "$(stamp "$larger")" ]] || return 0
  done
  return 1
}

find_python() {
  local name
  for name in python3.13 python3.12 python3.11 python3; do
    # A name may be a shim that leads nowhere, and Debian ships Python without venv.
    if "$name" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  echo "Python 3.11 or later with its venv module is needed, and none of python3.13, python3.12," \
    "python3.11 and python3 is that (on Debian and Ubuntu: apt install python3 python3-venv)." >&2
  return 1
}

# Usage: install run|test|check|bench PYTHON
# Every version is given, so pip resolves nothing: no later release can change what is installed, or stop it.
install() {
  echo "Setting up $venv (the first start takes a minute) ..."
  # Half of a set-up cannot be trusted; a venv that another tool made here is used as it is.
  if [[ -e $venv/unfinished || ! -x $venv/bin/python || (-e $venv/stamp && $(<"$venv/stamp") != *" $root "*) ]]; then
    rm -rf "$venv"
  fi
  mkdir -p "$venv"
  touch "$venv/unfinished"
  rm -f "$venv/stamp"
  [[ -x $venv/bin/python ]] || "$2" -m venv "$venv"
  "$venv/bin/python" -c 'import pip' 2>/dev/null || "$venv/bin/python" -m ensurepip --upgrade # uv's have none
  local pip=("$venv/bin/python" -m pip --quiet --disable-pip-version-check install --no-deps)
  rm -rf "$venv/fastmcp-lowest"
  if ! "${pip[@]}" --requirement "$root/scripts/pins/$1.txt" ||
    ! "${pip[@]}" --no-build-isolation --editable "$root" ||
    ! { [[ -z $(beside "$1") ]] ||
      "${pip[@]}" --target "$venv/fastmcp-lowest" --requirement "$root/$(beside "$1")"; }; then
    echo "The dependencies could not be installed; pip says why above. Run this again to go on."
    return 1
  fi
  [[ $1 != test && $1 != check ]] || provide_redis
  stamp "$1" >"$venv/stamp"
  rm "$venv/unfinished"
}

# The tests of the store on Redis need a server, which is no Python package. Where none can be installed the
# tests say that they leave these out.
provide_redis() {
  command -v redis-server >/dev/null && return
  if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "There is no redis-server, and installing it needs root and apt-get: its tests are left out."
    return
  fi
  local apt=(timeout 300 apt-get -qq -o DPkg::Lock::Timeout=60 -o Acquire::Retries=1)
  export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 # with that level no service is started
  { "${apt[@]}" update || true; "${apt[@]}" install -y --no-install-recommends redis-server; } >/dev/null 2>&1 ||
    echo "redis-server could not be installed with apt-get: its tests are left out."
}
