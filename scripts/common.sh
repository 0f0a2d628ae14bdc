# shellcheck shell=bash disable=SC2034
# Sourced by the other scripts: where things are, and which PostgreSQL is meant.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
work=$root/target
supported_majors="18 17 15"

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

pgrx_version=$(sed -n 's/^pgrx = "=\(.*\)"$/\1/p' "$root/Cargo.toml")
tools=${XDG_CACHE_HOME:-$HOME/.cache}/live_stream/cargo-pgrx-$pgrx_version

# cargo-pgrx of the version that Cargo.toml pins: the user's own, or the one that scripts/setup installs beside it.
cargo_pgrx() {
  local candidate
  for candidate in cargo-pgrx "$tools/bin/cargo-pgrx"; do
    if [ "$("$candidate" pgrx --version 2>/dev/null)" = "cargo-pgrx $pgrx_version" ]; then
      say "$candidate"
      return
    fi
  done
  return 1
}

pg_major() { "$1" --version | sed -n 's/^PostgreSQL \([0-9]*\).*/\1/p'; }

# True if this pg_config has a server to run and headers to build with.
pg_complete() {
  [ -x "$("$1" --bindir)/postgres" ] && [ -e "$("$1" --includedir-server)/postgres.h" ]
} 2>/dev/null

# PG_CONFIG, or the newest PostgreSQL that is installed whole.
find_pg_config() {
  local major
  if [ -n "${PG_CONFIG:-}" ]; then
    command -v "$PG_CONFIG" || die "PG_CONFIG: no such program: $PG_CONFIG"
    return
  fi
  for major in $supported_majors; do
    if pg_complete "/usr/lib/postgresql/$major/bin/pg_config"; then
      say "/usr/lib/postgresql/$major/bin/pg_config"
      return
    fi
  done
  return 1
}

# Sets pg_config, major, feature and stage, and tells pgrx of a PostgreSQL that its own configuration does not know.
use_postgres() {
  pg_config=$(find_pg_config) || die "no PostgreSQL with server and headers found: run scripts/setup, or set PG_CONFIG"
  major=$(pg_major "$pg_config")
  case " $supported_majors " in
    *" $major "*) ;;
    *) die "PostgreSQL $major is not supported (only $supported_majors)" ;;
  esac
  feature=pg$major
  stage=$work/stage/pg$major${PROFILE:+-$PROFILE}
  # Only where needed: the variable differing from one build to the next compiles pgrx anew.
  local known
  known=$(sed -n "s/^pg$major *= *\"\(.*\)\"/\1/p" "${PGRX_HOME:-$HOME/.pgrx}/config.toml" 2>/dev/null || true)
  local same=(--version --includedir-server)
  if [ -z "$known" ] || [ "$("$known" "${same[@]}" 2>&1)" != "$("$pg_config" "${same[@]}")" ]; then
    export PGRX_PG_CONFIG_PATH=$pg_config
  fi
}
