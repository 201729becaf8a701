#!/bin/sh
# As the official image does: the first start makes the directory, with a superuser whose password root reads from a file.
set -eu
bin=$(echo /usr/lib/postgresql/*/bin)
ln -sf "$bin"/psql "$bin"/pg_isready /usr/local/bin/

as_postgres() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }

install -d -o postgres -g postgres -m 3777 /var/run/postgresql
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  install -d -o postgres -g postgres -m 700 "$PGDATA"
  install -o postgres -m 400 "$POSTGRES_PASSWORD_FILE" /tmp/password
  as_postgres "$bin/initdb" --pgdata="$PGDATA" --username="$POSTGRES_USER" --pwfile=/tmp/password \
    --encoding=UTF8 --locale=C.UTF-8 --auth-local=trust --auth-host=scram-sha-256
  rm /tmp/password
  echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
  as_postgres "$bin/pg_ctl" --pgdata="$PGDATA" --options='-c listen_addresses=' --wait start
  "$bin/createdb" --username="$POSTGRES_USER" "$POSTGRES_DB"
  as_postgres "$bin/pg_ctl" --pgdata="$PGDATA" --mode=fast --wait stop
fi
exec setpriv --reuid=postgres --regid=postgres --clear-groups "$bin/postgres" -D "$PGDATA" -c listen_addresses='*'
