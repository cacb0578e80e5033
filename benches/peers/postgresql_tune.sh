#!/usr/bin/env bash
# Tunes a throw-away PostgreSQL with pgbench, then measures defaults and recommendation again, side by side.
#
#   benches/peers/postgresql_tune.sh [TRIALS] [SECONDS A RUN] [ROUNDS] [SEED]      default: 40 5 6 1
#
# Wants PostgreSQL's server programs and pgbench (apt-get install postgresql), foreglow-train in PATH or $FOREGLOW_TRAIN,
# and 1 GB in the temporary folder. Only a cluster of its own is touched: it listens on a socket in that folder.
# Everything that was found stays in $OUT, when given: study, journal, SQL, report, rounds. $OPTUNA, when given, is a python
# with optuna: its TPE gets as many trials of the same kind, and takes its turns in the rounds.
# $WORKLOAD: `tpcb` (default), pgbench's own transactions; `mixed`, of which one in 200 is a report over 200,000 rows,
# aggregated into some 15,000 groups and sorted.
set -euo pipefail
trials=${1:-40} seconds=${2:-5} rounds=${3:-6} seed=${4:-1}
train=$(realpath "$(command -v "${FOREGLOW_TRAIN:-foreglow-train}")")
workload=${WORKLOAD:-tpcb}
bin=${PGBIN:-$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)}

# The server refuses to run as root: then everything is done by the user that its package brings.
if [ "$(id -u)" = 0 ]; then
    user=${PGUSER_OS:-postgres}
    work=$(mktemp -d)
    chown "$user" "$work"
    cp "$0" "$work/tune.sh"
    cp "$(dirname "$0")/optuna_postgresql.py" "$work"
    chmod 755 "$work/tune.sh"
    runuser -u "$user" -- env PGBIN="$bin" FOREGLOW_TRAIN="$train" WORK="$work" OPTUNA="${OPTUNA:-}" WORKLOAD="$workload" \
        "$work/tune.sh" "$trials" "$seconds" "$rounds" "$seed" && code=0 || code=$?
    if [ -n "${OUT:-}" ]; then
        mkdir -p "$OUT"
        cp "$work"/{study.toml,study.journal,change.sql,optuna.sql,report.txt,rounds.txt} "$OUT" 2> /dev/null || true
    fi
    rm -rf "$work"
    exit "$code"
fi

here=$(realpath "$(dirname "$0")")
work=${WORK:-$(mktemp -d)}
cd "$work"
export PGHOST=$work PGUSER=bench PGDATABASE=bench PGDATA=$work/data PATH=$bin:$PATH
trap 'pg_ctl -m immediate stop > /dev/null 2>&1 || true' EXIT

initdb -U bench -A trust --no-sync > initdb.log
printf "listen_addresses = ''\nunix_socket_directories = '%s'\n" "$work" >> data/postgresql.conf
pg_ctl -w -l server.log start > /dev/null
createdb bench
pgbench -i -q -s 20 > init.log 2>&1

# A configuration that the server cannot start with is a failed trial; the server comes back with its defaults.
cat > restart.sh <<'END'
#!/bin/sh
pg_ctl -w -t 60 -m fast -l server.log restart > restart.log 2>&1 && exit 0
tail -1 server.log >&2
rm -f data/postgresql.auto.conf
pg_ctl -w -l server.log start > /dev/null 2>&1
exit 1
END
chmod +x restart.sh

memory=$(awk '/MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
cat > study.toml <<END
name = "pgbench"
space = "postgresql"
only = ["shared_buffers", "effective_cache_size", "work_mem", "wal_buffers", "max_wal_size", "checkpoint_timeout",
        "checkpoint_completion_target", "wal_compression", "commit_delay", "bgwriter_delay", "bgwriter_lru_maxpages",
        "random_page_cost"]
given = { memory_mb = $memory }
budget = { trials = $trials }
seed = $seed
[narrow.shared_buffers]
high = 2048
[objective]
metric = "tps"
goal = "max"
[[guard_rails]]
metric = "latency_ms"
at_most = "1.5*baseline"
[run]
warmup = 1
repeats = 2
timeout = "2m"
apply = "psql -qX -v ON_ERROR_STOP=1"
apply_as = "sql"
restart = "./restart.sh"
[[metrics]]
name = "tps"
pattern = '^tps = ([0-9.]+) '
[[metrics]]
name = "latency_ms"
pattern = '^latency average = ([0-9.]+) ms'
END

cat > report.sql <<'END'
\set low random(1, 100000 * :scale - 300000)
SELECT bid, aid % 5000 AS slot, count(*), avg(abalance), max(filler) FROM pgbench_accounts
WHERE aid BETWEEN :low AND :low + 200000 GROUP BY bid, slot ORDER BY 4 DESC, 2 LIMIT 20;
END
load=(pgbench -n -c 8 -j 2 -T "$seconds")
case $workload in
    tpcb) ;;
    mixed) load+=(-b tpcb-like@199 -f report.sql@1) ;;
    *) echo "WORKLOAD is $workload: give tpcb or mixed" >&2; exit 2 ;;
esac
"$train" tune --study study.toml --emit sql --out change.sql -- "${load[@]}" | tee report.txt
# Where nothing is recommended, the defaults stay, and the rounds show how far two runs of them are apart.
grep -q 'ALTER SYSTEM SET' change.sql || { echo "nothing was recommended: the defaults stay"; : > change.sql; }

arms=(defaults recommended)
if [ -n "${OPTUNA:-}" ]; then
    psql -qX -c 'ALTER SYSTEM RESET ALL'
    "$OPTUNA" "$here/optuna_postgresql.py" "$trials" "$seed" "${load[@]}" > optuna.sql
    arms+=(optuna)
fi

# In turn, the order swapped every round, so that drift hits all alike.
one() { # NAME
    psql -qX -c 'ALTER SYSTEM RESET ALL'
    case $1 in
        recommended) psql -qX -v ON_ERROR_STOP=1 -f change.sql > /dev/null ;;
        optuna) psql -qX -v ON_ERROR_STOP=1 -f optuna.sql > /dev/null ;;
    esac
    ./restart.sh
    psql -qX -c CHECKPOINT
    "${load[@]}" > /dev/null 2>&1
    "${load[@]}" 2> /dev/null | awk -v name="$1" '/^tps/ { print name, $3 }' | tee -a rounds.txt
}
for round in $(seq "$rounds"); do
    for k in $(seq 0 $((${#arms[@]} - 1))); do
        if [ $((round % 2)) = 0 ]; then one "${arms[k]}"; else one "${arms[${#arms[@]} - 1 - k]}"; fi
    done
done
awk '{ n[$1]++; s[$1] += $2; q[$1] += $2 * $2 }
    END {
        for (k in n) { m[k] = s[k] / n[k]; e[k] = sqrt((q[k] / n[k] - m[k] ^ 2) / (n[k] - 1)) }
        printf "defaults %.0f +- %.0f tps, recommended %.0f +- %.0f tps: %+.1f %%", m["defaults"], e["defaults"],
            m["recommended"], e["recommended"], 100 * (m["recommended"] / m["defaults"] - 1)
        if ("optuna" in m)
            printf "; Optuna TPE %.0f +- %.0f tps, recommended against it: %+.1f %%", m["optuna"], e["optuna"],
                100 * (m["recommended"] / m["optuna"] - 1)
        print ""
    }' rounds.txt
