"""Optuna's TPE on the server that `postgresql_tune.sh` started: the peer of `foreglow-train tune`.

    optuna_postgresql.py TRIALS SEED PGBENCH ...        in the folder of the cluster; PGHOST and the rest are set

The same parameters and ranges, the same run (one to warm up, two that count), the defaults as the first trial. Prints the
`ALTER SYSTEM` statements of its best trial.
"""

import re
import subprocess
import sys

import optuna

REPEATS = 2
# Name: low, high, value outside of the range with a meaning of its own, unit.
LOGARITHMIC = {
    "effective_cache_size": (64, 65536, None, "MB"),
    "work_mem": (64, 262144, None, "kB"),
    "wal_buffers": (64, 262144, -1, "kB"),
    "max_wal_size": (64, 32768, None, "MB"),
    "checkpoint_timeout": (30, 3600, None, "s"),
    "commit_delay": (10, 10000, 0, ""),
    "bgwriter_delay": (10, 2000, None, "ms"),
    "bgwriter_lru_maxpages": (10, 5000, 0, ""),
}
DEFAULTS = {
    "shared_buffers": 128,
    "effective_cache_size": 4096,
    "work_mem": 4096,
    "wal_buffers special": True,
    "max_wal_size": 1024,
    "checkpoint_timeout": 300,
    "checkpoint_completion_target": 0.9,
    "wal_compression": False,
    "commit_delay special": True,
    "bgwriter_delay": 200,
    "bgwriter_lru_maxpages special": False,
    "bgwriter_lru_maxpages": 100,
    "random_page_cost": 4.0,
}


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def psql(statement):
    run("psql", "-qX", "-v", "ON_ERROR_STOP=1", "-c", statement)


def configuration(trial):
    """The configuration of a trial as PostgreSQL writes it."""
    out = {}
    for name, (low, high, special, unit) in LOGARITHMIC.items():
        if special is not None and trial.suggest_categorical(f"{name} special", [False, True]):
            out[name] = str(special)
            continue
        out[name] = f"{trial.suggest_int(name, low, high, log=True)}{unit}"
        if name == "effective_cache_size":
            most = min(2048, int(out[name][:-2]))
    # The rule shared_buffers <= effective_cache_size.
    out["shared_buffers"] = f"{trial.suggest_int('shared_buffers', 16, most, log=True)}MB"
    out["checkpoint_completion_target"] = f"{trial.suggest_float('checkpoint_completion_target', 0.3, 0.95, step=0.05):.2f}"
    out["wal_compression"] = "on" if trial.suggest_categorical("wal_compression", [False, True]) else "off"
    out["random_page_cost"] = f"{trial.suggest_float('random_page_cost', 1.0, 8.0, step=0.25):.2f}"
    return out


def main():
    trials, seed = (int(a) for a in sys.argv[1:3])
    load = sys.argv[3:]

    def measure(trial):
        settings = configuration(trial)
        trial.set_user_attr("settings", settings)
        for name, value in settings.items():
            psql(f"ALTER SYSTEM SET {name} = '{value}'")
        run("./restart.sh")
        run(*load)
        found = [float(re.search(r"(?m)^tps = ([0-9.]+) ", run(*load)).group(1)) for _ in range(REPEATS)]
        print(f"trial {trial.number}: {sum(found) / REPEATS:.0f} tps", file=sys.stderr)
        return sum(found) / REPEATS

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.enqueue_trial(DEFAULTS)
    # A configuration that the server cannot start with is a failed trial.
    study.optimize(measure, n_trials=trials, catch=(subprocess.CalledProcessError,))
    for name, value in study.best_trial.user_attrs["settings"].items():
        print(f"ALTER SYSTEM SET {name} = '{value}';")


if __name__ == "__main__":
    main()
