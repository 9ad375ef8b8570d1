#!/bin/sh
# Makes a database as walengine-projector would have it, of made-up transfers, and asks the questions of projector/ANSWERS.md:
# each of them five times, and once with EXPLAIN. Needs a PostgreSQL server's programs (Debian: postgresql). Takes some minutes and
# 3 GB below DIRECTORY, which stays: a second run asks again.
#
#   scripts/answers.sh DIRECTORY [TRANSFERS=5000000]
#
# Two accounts of 100,002 have a part in every tenth transfer each. Two partitions, a year, a time of business for four of five.
set -eu
[ $# -ge 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
tree=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
directory=$(cd "$1" && pwd)
count=${2:-5000000}
programs=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
PATH=$programs:$PATH
[ "$(id -u)" != 0 ] || { # PostgreSQL does not run as root
    chmod a+rx "$directory"
    chown -R postgres "$directory"
    as="setpriv --reuid=postgres --regid=postgres --clear-groups"
}
run() { ${as:-} "$@"; }
ask() { psql -X -q -v ON_ERROR_STOP=1 -h "$directory" -U postgres "$@"; }
[ -e "$directory/data" ] || {
    run initdb -D "$directory/data" -U postgres --auth=trust --no-sync > /dev/null
    made=0
}
run pg_ctl -D "$directory/data" -l "$directory/log" -w start -o "-k $directory -c listen_addresses='' -c fsync=off \
    -c shared_buffers=256MB -c max_wal_size=512MB -c wal_level=minimal -c max_wal_senders=0 -c maintenance_work_mem=256MB" > /dev/null
trap 'run pg_ctl -D "$directory/data" -m fast stop > /dev/null' EXIT
if [ "${made:-1}" = 0 ]; then
    schema=$tree/projector/src/schema
    {
        echo "SET client_min_messages = error; CREATE ROLE walengine_reader; CREATE SCHEMA walengine; SET search_path = walengine;"
        cat "$schema/001_types.sql"
        for version in 001 002 003 004 005 006 007 008 009 010 011 012; do
            for file in "$schema/$version"_*.sql; do
                case $file in *_partition.sql | *_types.sql) ;; *) cat "$file" ;; esac
            done
        done
        echo "INSERT INTO log (cluster, partitions) VALUES (gen_random_uuid(), 2);"
        for file in partition 004_partition 005_partition 006_partition 007_partition 009_partition 010_partition 011_partition; do
            sed 's/{number}/0/g; s/{suffix}/p0000/g' "$schema/$file.sql"
            sed 's/{number}/1/g; s/{suffix}/p0001/g' "$schema/$file.sql"
        done
        sed "s/:count/$count/g" "$tree/scripts/answers_data.sql"
    } | ask
fi
ask -f "$tree/scripts/answers_questions.sql"
