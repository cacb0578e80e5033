#!/bin/sh
# Made what lies beside it, once, at the commit that added it. Do not run it again to mend a failing test: an artifact that
# somebody fitted then must still load and say the same. A new layout gets a folder of its own.
set -eu
cd "$(dirname "$0")"
TRAIN=${1:-../../../target/debug/foreglow-train}
"$TRAIN" datasets generate --name compat --series 2 --metrics 3 --groups 1 --days 8 --step 10m --events 2 --seed 5 --out data
"$TRAIN" fit --data data --recipe recipe.toml --registry registry --name compat --seed 1
"$TRAIN" backtest --task anomaly --data data --registry registry --artifact compat --out out
mv out/scores.parquet scores.parquet
rm -r out
