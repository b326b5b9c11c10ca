#!/usr/bin/env bash
# Installs PostgreSQL 15 with pgvector on Debian 12. Debian 12 has no pgvector package, so this builds it from
# Debian 13's source package. Skips whatever is already installed.
# PGVECTOR_DESTDIR installs pgvector below another root, and builds it even if it is already installed.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

packages=(postgresql-15 postgresql-server-dev-15 build-essential dpkg-dev pgbouncer python3-psycopg)
missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done

scratch=$(mktemp -d)
policy=/usr/sbin/policy-rc.d
finish() {
  rm -rf "$scratch"
  if [ -n "${policy_is_ours:-}" ]; then rm -f "$policy"; fi
}
trap finish EXIT

if [ ${#missing[@]} -gt 0 ]; then
  # Debian starts the services that it installs; this prevents that.
  if [ ! -e "$policy" ]; then
    policy_is_ours=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

destdir=${PGVECTOR_DESTDIR:-}
if [ -z "$destdir" ] && [ -f /usr/share/postgresql/15/extension/vector.control ]; then
  echo "pgvector is already installed"
  exit 0
fi

# Finds the machine's Debian mirror through apt, which reads every format of sources. The origin excludes third
# parties, the label excludes the security archive. Takes the first of several matches.
find_mirror() {
  apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)' |
    awk -F'|' '$1 == "Debian" && $2 == "Debian" && $3 == "main" { print $4; exit }'
}
mirror=$(find_mirror)
if [ -z "$mirror" ]; then
  # apt knows origins only after an update.
  apt-get update -qq
  mirror=$(find_mirror)
fi
[ -n "$mirror" ] || { echo "apt has no Debian mirror in its sources" >&2; exit 1; }

# Separate apt lists: the machine's stay untouched, and no trixie package can be installed.
mkdir -p "$scratch/lists/partial" "$scratch/sources.list.d" "$scratch/build"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb-src [signed-by=$keyring] $mirror trixie main" >"$scratch/sources.list"
options=(
  -o "Dir::Etc::SourceList=$scratch/sources.list"
  -o "Dir::Etc::SourceParts=$scratch/sources.list.d"
  -o "Dir::State::lists=$scratch/lists"
  -o "Dir::Cache::srcpkgcache="
  -o "Dir::Cache::pkgcache="
  -o "APT::Sandbox::User=root"
)
apt-get "${options[@]}" update -qq
(cd "$scratch/build" && apt-get "${options[@]}" source -qq pgvector)

cd "$scratch"/build/pgvector-*/
pg_config=/usr/lib/postgresql/15/bin/pg_config
# OPTFLAGS is empty to avoid instructions specific to the build machine.
make -s OPTFLAGS="" PG_CONFIG="$pg_config"
make -s install PG_CONFIG="$pg_config" DESTDIR="$destdir"
echo "pgvector was built and installed"
