use crate::error::some_of;
use crate::{DatasetError, Manifest};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Where a dataset of the catalogue comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A folder in the tidy layout, prepared from several sources; its manifest names them.
    Folder,
    /// One plain CSV file that [`crate::fetch`] downloads and converts.
    File {
        /// Where it lies, pinned to a commit.
        url: &'static str,
        /// Its checksum; `None` where nobody has verified one: the caller must bring it.
        sha256: Option<&'static str>,
        /// The id that the converted series gets.
        series: &'static str,
    },
}

/// One dataset that foreglow knows by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// One line.
    pub title: &'static str,
    /// What it can be used for.
    pub tasks: &'static [&'static str],
    /// Terms of use.
    pub licence: &'static str,
    /// Where it comes from.
    pub origin: Origin,
}

/// A CloudWatch file of the Numenta Anomaly Benchmark (Ahmad et al. 2017, doi:10.1016/j.neucom.2017.04.070).
macro_rules! nab {
    ($file:literal) => {
        Entry {
            name: concat!("nab/", $file),
            title: concat!("NAB, AWS CloudWatch: ", $file),
            tasks: &["anomaly-univariate", "forecast"],
            licence: "MIT",
            origin: Origin::File {
                url: concat!(
                    "https://raw.githubusercontent.com/numenta/NAB/ea702d75cc2258d9d7dd35ca8e5e2539d71f3140/data/realAWSCloudwatch/",
                    $file,
                    ".csv"
                ),
                sha256: None,
                series: concat!("realAWSCloudwatch/", $file),
            },
        }
    };
}

/// An electricity transformer file (Zhou et al. 2021, doi:10.1609/aaai.v35i12.17325).
macro_rules! ett {
    ($name:literal, $file:literal, $title:literal) => {
        Entry {
            name: $name,
            title: $title,
            tasks: &["forecast-multivariate"],
            licence: "CC-BY-ND-4.0: do not publish altered versions",
            origin: Origin::File {
                url: concat!(
                    "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/1d16c8f4f943005d613b5bc962e9eeb06058cf07/ETT-small/",
                    $file,
                    ".csv"
                ),
                sha256: None,
                series: $file,
            },
        }
    };
}

/// Every dataset that foreglow knows by name. To add one, add an entry here.
pub static CATALOGUE: &[Entry] = &[
    Entry {
        name: "asd",
        title: "Application Server Dataset (InterFusion)",
        tasks: &["anomaly-multivariate", "interpretation", "forecast"],
        licence: "MIT",
        origin: Origin::Folder,
    },
    Entry {
        name: "azure_cpu",
        title: "Azure 2017 VM trace summed over the fleet: minimum, maximum and average CPU",
        tasks: &["forecast-multivariate", "capacity"],
        licence: "Apache-2.0 (copy) / CC-BY-4.0 (AzurePublicDataset)",
        origin: Origin::Folder,
    },
    Entry {
        name: "bitbrains_small",
        title: "Bitbrains (GWA-T-12) sample: CPU use of 50 business-critical virtual machines, one month",
        tasks: &["forecast-univariate", "clustering", "capacity"],
        licence: "MIT",
        origin: Origin::Folder,
    },
    Entry {
        name: "bizitobs_application",
        title: "Robot Shop (Instana): application calls, errors, latency and alerts, 10 seconds",
        tasks: &["forecast-multivariate"],
        licence: "CDLA-Sharing-1.0",
        origin: Origin::Folder,
    },
    Entry {
        name: "crane_workload",
        title: "Workload traces used by the Crane autoscaler's forecaster",
        tasks: &["forecast-univariate", "clustering", "capacity"],
        licence: "Apache-2.0",
        origin: Origin::Folder,
    },
    Entry {
        name: "ett_1",
        title: "ETTh1 (hourly) and ETTm1 (15 minutes)",
        tasks: &["forecast-multivariate"],
        licence: "CC-BY-ND-4.0",
        origin: Origin::Folder,
    },
    Entry {
        name: "kpi_a",
        title: "AIOps challenge 2018 KPIs, part A (4 series)",
        tasks: &["anomaly-univariate", "forecast"],
        licence: "MIT",
        origin: Origin::Folder,
    },
    Entry {
        name: "m4_hourly",
        title: "M4 competition, hourly series",
        tasks: &["forecast-univariate"],
        licence: "none stated",
        origin: Origin::Folder,
    },
    Entry {
        name: "mscloud_a",
        title: "Microsoft Cloud Monitoring Dataset, domains A",
        tasks: &["anomaly-univariate", "forecast"],
        licence: "MIT",
        origin: Origin::Folder,
    },
    Entry {
        name: "nab_cloud",
        title: "Numenta Anomaly Benchmark: AWS CloudWatch metrics and known-cause failures",
        tasks: &["anomaly-univariate", "forecast"],
        licence: "MIT",
        origin: Origin::Folder,
    },
    Entry {
        name: "nezha_a",
        title: "Nezha: OnlineBoutique, 2022-08-22, 24 injections",
        tasks: &["root-cause", "anomaly-multivariate"],
        licence: "MIT",
        origin: Origin::Folder,
    },
    Entry {
        name: "petshop_train",
        title: "PetShop root-cause cases, training issues",
        tasks: &["root-cause", "anomaly-multivariate"],
        licence: "CC-BY-4.0",
        origin: Origin::Folder,
    },
    Entry {
        name: "smd_a",
        title: "Server Machine Dataset, group 1 (7 of 8 machines)",
        tasks: &["anomaly-multivariate", "interpretation"],
        licence: "MIT",
        origin: Origin::Folder,
    },
    nab!("ec2_cpu_utilization_24ae8d"),
    nab!("ec2_cpu_utilization_53ea38"),
    nab!("ec2_cpu_utilization_5f5533"),
    nab!("ec2_cpu_utilization_77c1ca"),
    nab!("ec2_cpu_utilization_825cc2"),
    nab!("ec2_cpu_utilization_ac20cd"),
    nab!("ec2_cpu_utilization_c6585a"),
    nab!("ec2_cpu_utilization_fe7f93"),
    nab!("ec2_disk_write_bytes_1ef3de"),
    nab!("ec2_disk_write_bytes_c0d644"),
    nab!("ec2_network_in_257a54"),
    nab!("ec2_network_in_5abac7"),
    nab!("elb_request_count_8c0756"),
    nab!("grok_asg_anomaly"),
    nab!("iio_us-east-1_i-a2eb1cd9_NetworkIn"),
    nab!("rds_cpu_utilization_cc0c53"),
    nab!("rds_cpu_utilization_e47b3b"),
    ett!("ett/h1", "ETTh1", "Transformer load and oil temperature, hourly"),
    ett!("ett/h2", "ETTh2", "Transformer load and oil temperature of a second station, hourly"),
    ett!("ett/m1", "ETTm1", "Transformer load and oil temperature, 15 minutes"),
    ett!("ett/m2", "ETTm2", "Transformer load and oil temperature of a second station, 15 minutes"),
];

/// The catalogue.
pub fn list() -> &'static [Entry] {
    CATALOGUE
}

/// The entry of that name.
///
/// # Errors
/// [`DatasetError::Catalogue`] naming what there is.
pub fn find(name: &str) -> Result<&'static Entry, DatasetError> {
    CATALOGUE.iter().find(|e| e.name == name).ok_or_else(|| DatasetError::Catalogue {
        name: name.to_owned(),
        problem: format!("not in the catalogue, which holds {}", some_of(CATALOGUE.iter().map(|e| e.name))),
    })
}

/// The tidy folders directly under `root`, by name, with their manifests.
///
/// # Errors
/// [`DatasetError::Io`] when `root` cannot be listed, [`DatasetError::Manifest`] for a broken manifest.
pub fn local(root: &Path) -> Result<Vec<(PathBuf, Manifest)>, DatasetError> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(root).map_err(|e| DatasetError::io(root, "list", e))? {
        let path = item.map_err(|e| DatasetError::io(root, "list", e))?.path();
        let manifest = path.join("manifest.json");
        if manifest.is_file() && path.join("data.parquet").is_file() {
            found.push((path, Manifest::read(&manifest)?));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// A manifest as a page of text: what it is, terms, splits, label meaning, caveats, series.
pub fn describe(manifest: &Manifest) -> String {
    let m = manifest;
    let mut out = format!("{}: {}\n", m.name, m.title);
    let mut line = |name: &str, text: &str| {
        if !text.is_empty() {
            let _ = writeln!(out, "  {name:<14}{text}");
        }
    };
    line("domain", &m.domain);
    line("tasks", &m.tasks.join(", "));
    line(
        "size",
        &format!("{} series, {} rows, {} metrics, {} events", m.series.len(), m.n_rows, m.metrics.len(), m.n_events),
    );
    if let Some(rate) = m.anomaly_rate_of_labelled {
        line("anomalous", &format!("{:.2} % of {} labelled rows", 100.0 * rate, m.labelled_rows));
    }
    line("licence", &m.licence.id);
    line("", m.licence.note.as_deref().unwrap_or(""));
    line("timestamps", &m.timestamps);
    line("labels", &m.label_meaning);
    line("split", &m.split_rule);
    line("protocol", &m.protocol);
    line("citation", &m.citation);
    for s in &m.sources {
        line("source", &format!("{} {}", s.url, s.commit));
    }
    for c in &m.caveats {
        line("caveat", c);
    }
    line("metrics", &some_of(&m.metrics));
    for s in m.series.iter().take(20) {
        let every = s.interval_ms.map(|ms| format!(", every {} s", ms as f64 / 1000.0)).unwrap_or_default();
        line("series", &format!("{}: {} rows, {} to {}{every}", s.id, s.rows, s.start, s.end));
    }
    if m.series.len() > 20 {
        line("", &format!("and {} more series", m.series.len() - 20));
    }
    out
}
