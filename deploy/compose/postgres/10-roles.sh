#!/bin/bash
# Makes the roles of the mirror and of Electric, with the passwords of the secrets. The image runs it once, when it makes the
# database, and never again, also if it has failed. It can be repeated at any time, also for new passwords:
#
#   docker compose exec postgres /docker-entrypoint-initdb.d/10-roles.sh
#
# The mirror makes the schema `tailwater` and owns it. Electric needs the right to replicate, and to add the tables that it
# follows to a publication of its own, which takes their owner: so it is a member of the mirror's role.
set -euo pipefail

password_of() {
    local path=${SECRETS_DIRECTORY:-/run/secrets}/$1_password
    if [ ! -s "$path" ]; then
        echo "$path is missing or empty: run deploy/compose/setup" >&2
        exit 1
    fi
    cat "$path"
}

mirror=$(password_of mirror)
electric=$(password_of electric)
# By stdin: the arguments of a process are for everybody to see.
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --single-transaction --file - --username "${POSTGRES_USER:-postgres}" --dbname "${POSTGRES_DB:-logs}" <<SQL
SELECT format('CREATE ROLE %I', name) FROM unnest(ARRAY['mirror', 'electric']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE mirror LOGIN PASSWORD '$mirror';
ALTER ROLE electric LOGIN REPLICATION PASSWORD '$electric';
GRANT mirror TO electric;
SELECT format('GRANT CREATE ON DATABASE %I TO mirror, electric', current_database()) \gexec
SQL
