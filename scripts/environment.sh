# Sourced by the other scripts: makes `.venv` in the checkout and installs the project with the extras named in $1
# (none by default).
# Nothing is installed again while pyproject.toml and the extras stay the same.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export NUMBA_THREADING_LAYER=workqueue OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export PIP_CONSTRAINT="${PIP_CONSTRAINT:-$PWD/scripts/constraints.txt}"
# GPAW comes as source; half a minute of gcc.
export GPAW_CONFIG="${GPAW_CONFIG:-$PWD/scripts/gpaw_siteconfig.py}"

make_environment() {
  local extras=${1:-} stamp=.venv/.installed wanted
  wanted="$extras $(cksum < pyproject.toml)"
  if [ "$(cat $stamp 2>/dev/null || true)" != "$wanted" ]; then
    echo "installing into $PWD/.venv (extras: ${extras:-none}; about two minutes the first time) ..."
    [ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".${extras:+[$extras]}" 2>&1 | { grep -v '^WARNING: Location' || true; }
    .venv/bin/python -c 'import mlip_autopipec'
    echo "$wanted" > $stamp
    echo "compiling the kernels of the potentials (about a minute, once) ..."
  fi
  .venv/bin/python -m mlip_autopipec.ace
  export PATH="$PWD/.venv/bin:$PATH"
}
