//! A live stretch of the swarm becomes an artifact, and the running server takes it up.

use crate::draw::{Pen, number, own_sparkline};
use crate::plan;
use crate::player::{Player, series};
use crate::server::Server;
use crate::summary::Learned;
use anyhow::{Context, Result, bail};
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
/// The name of the artifact.
const NAME: &str = "swarm";
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
    if let Some(model) = &player.model {
        pen.item("scored so far by", &format!("{model}: the server needs no fit to begin with"));
    }

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
    pen.item(
        "fit",
        &format!(
            "{} series in {} groups, {} ticks each: {:.1} s",
            fitted.series,
            fitted.groups,
            ticks.len(),
            fit_seconds
        ),
    );
    for note in &fitted.notes {
        pen.item("", &pen.dim(note));
    }

    let put = Instant::now();
    let wanted = format!("{NAME}/{}", fitted.id);
    while player.model.as_deref() != Some(&wanted) {
        if put.elapsed() > PATIENCE {
            bail!("the server has not taken up {wanted} within {} s", PATIENCE.as_secs());
        }
        player.step().await?;
    }
    let loaded = put.elapsed().as_secs_f64();
    pen.item("artifact", &format!("{wanted}, in use after {} s, without a restart", number(loaded)));
    Ok(Learned {
        ticks: ticks.len(),
        groups: fitted.groups,
        series: fitted.series,
        fit_seconds,
        artifact: wanted,
        loaded_after_seconds: Some(loaded),
    })
}

struct Fitted {
    id: String,
    groups: usize,
    series: usize,
    notes: Vec<String>,
}

/// One group's rows as columns, with the keys they are posted under.
struct Columns {
    keys: Vec<MetricKey>,
    values: Vec<Vec<f64>>,
}

/// The artifact of these ticks, put into the registry.
fn fit(ticks: &[Arc<Tick>], seed: u64, registry: &Path) -> Result<Fitted> {
    let rules = Signals::parse(SIGNALS)?;
    let recipe = Recipe::parse(RECIPE)?;
    let times: Vec<Timestamp> = ticks.iter().map(|t| t.timestamp).collect();
    let columns = columns(ticks);
    // The last fifth is kept from the fit: what is called usual there sets the scale of surprise.
    let cut = ticks.len() * 4 / 5;
    let groups: Vec<BuildGroup<'_>> = columns
        .iter()
        .map(|c| BuildGroup {
            series: ReplaySeries { keys: &c.keys, timestamps: &times, columns: &c.values },
            fit: 0..cut,
            calibrate: cut..ticks.len(),
        })
        .collect();
    let (artifact, notes) = build_artifact(
        &NewArtifact {
            name: NAME,
            recipe: &recipe,
            rules: &rules,
            groups: &groups,
            may_miss: &[],
            selectors: &[],
            step: Some(Step::from_ms(plan::STEP_MS)?),
            data: DataInfo { data: "live".to_owned(), ..DataInfo::default() },
            seed: Seed(seed),
            warm: None,
        },
        &|_| {},
    )?;
    let id = Store::open(registry)?.put(&artifact)?;
    Ok(Fitted { id, groups: columns.len(), series: columns.iter().map(|c| c.keys.len()).sum(), notes })
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
