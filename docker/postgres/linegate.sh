#!/bin/sh
# Run once by the image, when the volume is empty: a database of the bridge's own, and a user who may only read it.
# Passwords go in by psql's variables, never by a command line that `ps` shows.
set -eu
: "${SECRETS:=/run/secrets}"
{
    printf '\\set linegate `cat %s/postgres_linegate_password`\n' "$SECRETS"
    printf '\\set reader `cat %s/postgres_reader_password`\n' "$SECRETS"
    cat <<'SQL'
CREATE ROLE linegate LOGIN PASSWORD :'linegate' CONNECTION LIMIT 20;
CREATE ROLE reader LOGIN PASSWORD :'reader' CONNECTION LIMIT 20;
CREATE DATABASE linegate OWNER linegate;
REVOKE ALL ON DATABASE linegate FROM PUBLIC;
GRANT CONNECT ON DATABASE linegate TO reader;
\connect linegate
-- What the bridge will make in it, tables and views alike.
ALTER DEFAULT PRIVILEGES FOR ROLE linegate IN SCHEMA public GRANT SELECT ON TABLES TO reader;
ALTER ROLE reader SET default_transaction_read_only = on;
ALTER ROLE reader SET statement_timeout = '30s';
SQL
} | psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres
