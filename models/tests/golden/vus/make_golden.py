"""Writes vus_synthetic.txt beside this file from the data folder's golden_vus.

The values were computed with the TSB-AD 1.5 package. Only the synthetic cases may be copied; the cases cut from SMD and
NAB are read where they lie, by the workspace's integration tests. Needs polars.

    python make_golden.py ../../../../../shared/data/golden_vus
"""

import sys
from pathlib import Path

import polars as pl

source = Path(sys.argv[1])
cases = pl.read_parquet(source / "cases.parquet")
lines = []
for row in pl.read_csv(source / "expected.csv").iter_rows(named=True):
    if row["case"].startswith(("smd_", "nab_")):
        continue
    part = cases.filter(pl.col("case") == row["case"]).sort("row")
    figures = " ".join(f"{row[k]:.9f}" for k in ("vus_pr", "vus_roc", "auc_pr", "auc_roc"))
    lines.append(f"case {row['case']} {row['window']} {figures}")
    lines.append("".join(str(v) for v in part["label"]))
    lines.append(" ".join(f"{v!r}" for v in part["score"]))
out = Path(__file__).with_name("vus_synthetic.txt")
out.write_text("\n".join(lines) + "\n")
