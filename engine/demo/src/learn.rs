//! A live stretch of the swarm becomes an artifact, and the running server takes it up.

use crate::draw::{Pen, number, own_sparkline};
use crate::plan;
use crate::player::{Player, series};
use crate::server::Server;
use crate::summary::Learned;
use anyhow::{Context, Result};
use foreglow_core::signals::Signals;
use foreglow_core::{Labels, MetricKey, Seed, Step, Timestamp};
use foreglow_lab::{AGENT_METRICS, SWARM_METRICS, Tick};
use foreglow_models::artifact::{BuildGroup, DataInfo, NewArtifact, Store, build_artifact};
use foreglow_models::evaluate::ReplaySeries;
use foreglow_models::spec::Recipe;
use indicatif::{ProgressBar, ProgressStyle};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is watched: read by the fit, and carried by the artifact to the server.
const SIGNALS: &str = include_str!("../signals.toml");
/// What is fitted.
const RECIPE: &str = include_str!("../recipe.toml");
/// The artifacts: one for the agents, one for the swarm as a whole, which has other metrics.
const NAMES: [&str; 2] = ["agents", "swarm"];
/// How long the server may take to notice a new artifact.
const PATIENCE: Duration = Duration::from_secs(15);

/// Plays the normal stretch, fits, and plays on until the server scores with the new artifact.
pub(crate) async fn learn(player: &mut Player, server: &Server, pen: Pen, seed: u64) -> Result<Learned> {
    let bar = ProgressBar::new(plan::ticks(plan::NORMAL) as u64);
    bar.set_style(ProgressStyle::with_template("   {msg:<18} {bar:40} {pos}/{len} ticks")?);
    bar.set_message("recording");
    player.play(plan::NORMAL, |_, _| bar.inc(1)).await?;
    bar.finish_and_clear();
    let ticks = player.ticks.clone();
    for name in ["throughput_per_s", "latency_p95_ms", "queue_length"] {
        pen.item(name, &own_sparkline(&series(&ticks, name), 60));
    }
    let waiting = player.models.values().filter(|m| *m == "online").count();
    pen.item("scored meanwhile", &format!("by the online baseline, which needs no fit ({waiting} groups)"));

    let begin = Instant::now();
    let registry = server.registry.clone();
    let normal = ticks.clone();
    let fit = tokio::task::spawn_blocking(move || fit(&normal, seed, &registry));
    // The world does not wait for a fit.
    while !fit.is_finished() {
        player.step().await?;
    }
    let fitted = fit.await.context("the fit")??;
    let fit_seconds = begin.elapsed().as_secs_f64();
    let (groups, series) = (fitted.iter().map(|f| f.groups).sum(), fitted.iter().map(|f| f.series).sum());
    pen.item("fit", &format!("{series} series in {groups} groups, {} ticks each: {fit_seconds:.1} s", ticks.len()));
    for note in fitted.iter().flat_map(|f| &f.notes) {
        pen.item("", &pen.dim(note));
    }

    let put = Instant::now();
    let artifacts: Vec<String> = fitted.iter().map(|f| f.model.clone()).collect();
    let served = |p: &Player| p.models.values().all(|m| artifacts.contains(m));
    while !served(player) && put.elapsed() < PATIENCE {
        player.step().await?;
    }
    let loaded = put.elapsed().as_secs_f64();
    let names = artifacts.join(" and ");
    let is_served = served(player);
    if is_served {
        pen.item("artifacts", &format!("{names}, in use after {} s, without a restart", number(loaded)));
    } else {
        let left: Vec<&String> =
            player.models.iter().filter(|(_, m)| !artifacts.contains(*m)).map(|(group, _)| group).collect();
        pen.item("artifacts", &format!("{names}; {loaded:.0} s later these do not serve {left:?}"));
    }
    Ok(Learned {
        ticks: ticks.len(),
        groups,
        series,
        fit_seconds,
        artifacts,
        loaded_after_seconds: is_served.then_some(loaded),
    })
}

/// One artifact that was put into the registry.
struct Fitted {
    /// `name/id`.
    model: String,
    groups: usize,
    series: usize,
    notes: Vec<String>,
}

/// One group's rows as columns, with the keys they are posted under.
struct Columns {
    keys: Vec<MetricKey>,
    values: Vec<Vec<f64>>,
}

/// The artifacts of these ticks, put into the registry.
fn fit(ticks: &[Arc<Tick>], seed: u64, registry: &Path) -> Result<Vec<Fitted>> {
    let rules = Signals::parse(SIGNALS)?;
    let recipe = Recipe::parse(RECIPE)?;
    let store = Store::open(registry)?;
    let times: Vec<Timestamp> = ticks.iter().map(|t| t.timestamp).collect();
    let all = columns(ticks);
    let (agents, swarm) = all.split_at(all.len().saturating_sub(1));
    // The last fifth is kept from the fit: what is usual there sets the scale of surprise.
    let cut = ticks.len() * 4 / 5;
    let one = |name: &str, columns: &[Columns]| -> Result<Fitted> {
        let groups: Vec<BuildGroup<'_>> = columns
            .iter()
            .map(|c| BuildGroup {
                series: ReplaySeries { keys: &c.keys, timestamps: &times, columns: &c.values },
                fit: 0..cut,
                calibrate: cut..ticks.len(),
            })
            .collect();
        let new = NewArtifact {
            name,
            recipe: &recipe,
            rules: &rules,
            groups: &groups,
            may_miss: &[],
            selectors: &[],
            step: Some(Step::from_ms(plan::STEP_MS)?),
            data: DataInfo { data: "live".to_owned(), ..DataInfo::default() },
            seed: Seed(seed),
            warm: None,
        };
        let (artifact, notes) = build_artifact(&new, &|_| {})?;
        let model = format!("{name}/{}", store.put(&artifact)?);
        Ok(Fitted { model, groups: groups.len(), series: columns.iter().map(|c| c.keys.len()).sum(), notes })
    };
    NAMES.into_iter().zip([agents, swarm]).map(|(name, columns)| one(name, columns)).collect()
}

fn columns(ticks: &[Arc<Tick>]) -> Vec<Columns> {
    let agents = ticks.first().map_or(0, |t| t.agents.len());
    let group = |labels: &Labels, names: &[&str], row: &dyn Fn(&Tick) -> Vec<f64>| {
        let rows: Vec<Vec<f64>> = ticks.iter().map(|t| row(t)).collect();
        Columns {
            keys: names.iter().map(|n| MetricKey::new(n, labels.clone())).collect(),
            values: (0..names.len()).map(|c| rows.iter().map(|r| r[c]).collect()).collect(),
        }
    };
    let mut out: Vec<Columns> = (0..agents)
        .map(|a| {
            let labels = Labels::new([("service", "swarm"), ("agent", &format!("a{a}"))]);
            group(&labels, &AGENT_METRICS, &|t| t.agents[a].values().to_vec())
        })
        .collect();
    out.push(group(&Labels::new([("service", "swarm")]), &SWARM_METRICS, &|t| t.swarm.values().to_vec()));
    out
}
