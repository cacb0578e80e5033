//! The server watches the swarm; two faults are injected.

use crate::client::{Contributor, Incident};
use crate::draw::{Pen, number, sparkline, table};
use crate::plan;
use crate::player::Player;
use crate::summary::{ContributorSummary, FaultOutcome, IncidentSummary, Summary};
use anyhow::Result;
use foreglow_core::Timestamp;
use foreglow_lab::{Event, Fault};

/// Watches, injects, watches; then puts each incident down to a fault or to none.
pub(crate) async fn watch(player: &mut Player, pen: Pen, summary: &mut Summary) -> Result<()> {
    let began = player.swarm.now();
    let mut events: Vec<Event> = Vec::new();
    player.play(plan::CALM, |_, new| report(pen, &[], new)).await?;
    for fault in plan::faults() {
        let event = player.swarm.inject(fault)?;
        pen.say(&format!("{}  {}", clock(event.start), pen.yellow(&format!("fault: {}", describe(&fault)))));
        events.push(event);
        player.play(fault.duration + plan::CALM, |_, new| report(pen, &events, new)).await?;
    }
    show_scores(player, pen, began);
    pen.gap();
    show_contributors(player, pen, &events);
    judge(player, pen, began, &events, summary);
    Ok(())
}

/// What is wrong, in words.
fn describe(fault: &Fault) -> String {
    let agent = fault.agent.map_or_else(|| "the swarm".to_owned(), |a| format!("agent a{a}"));
    format!("{} on {agent} for {} s", fault.kind.as_str().replace('_', " "), fault.duration.as_secs())
}

/// The time of day, UTC.
pub(crate) fn clock(t: Timestamp) -> String {
    let ms = t.ms_of_day();
    format!("{:02}:{:02}:{:02}.{}", ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms / 100 % 10)
}

/// One line an incident, with what stands out in it.
fn report(pen: Pen, events: &[Event], new: &[Incident]) {
    for incident in new {
        let after = cause(events, incident.opened_at).map(|e| (incident.opened_at.ms() - e.start.ms()) as f64 / 1000.0);
        let when = after.map_or_else(|| "no fault is active".to_owned(), |s| format!("+{s:.2} s"));
        let group = format!("incident in {:<6}", short_group(&incident.group));
        let score = format!("score {:>5}", number(incident.peak_score));
        let top = incident.contributors.first().map(words).unwrap_or_default();
        pen.say(&format!(
            "{}  {} {score}  {} {top}",
            clock(incident.opened_at),
            pen.red(&group),
            pen.dim(&format!("{when:<8}"))
        ));
    }
}

/// `error_ratio 0.069 where 0.002 is expected`.
fn words(c: &Contributor) -> String {
    let (actual, expected) = (c.actual.map_or("-".into(), number), c.expected.map_or("-".into(), number));
    format!("{} {actual} where {expected} is expected", c.signal)
}

/// What the worst incident of each fault was made of, at its peak.
fn show_contributors(player: &Player, pen: Pen, events: &[Event]) {
    for event in events {
        let mine = player.incidents.values().filter(|i| cause(events, i.opened_at) == Some(event));
        let Some(worst) = mine.max_by(|a, b| a.peak_score.total_cmp(&b.peak_score)) else { continue };
        let kind = event.kind.as_str().replace('_', " ");
        pen.item(&kind, &format!("worst in {}, score {}:", short_group(&worst.group), number(worst.peak_score)));
        for c in worst.contributors.iter().take(3).filter(|c| c.share >= 0.01) {
            pen.item("", &format!("{:>3.0} %  {}", 100.0 * c.share, words(c)));
        }
    }
}

/// The fault that an incident which opened at `t` is put down to: one that was active, or ended just before.
fn cause(events: &[Event], t: Timestamp) -> Option<&Event> {
    events.iter().rev().find(|e| e.start <= t && t <= e.end.plus(plan::AFTERMATH.as_millis() as i64))
}

/// One sparkline a group: the score from nothing to twice the alert line.
fn show_scores(player: &Player, pen: Pen, since: Timestamp) {
    pen.gap();
    pen.say(&pen.dim("scores while watching; a full bar is twice the alert line"));
    for (group, scores) in &player.scores {
        let values: Vec<f64> = scores.iter().filter(|(t, _)| *t > since).map(|(_, s)| *s).collect();
        let above = values.iter().filter(|s| **s >= 1.0).count();
        let line = sparkline(&values, 0.0, 2.0, 64);
        let line = if above > 0 { pen.red(&line) } else { pen.green(&line) };
        let count = pen.dim(&format!("{above} of {} above the line", values.len()));
        pen.say(&format!("{:<6} {line} {count}", short_group(group)));
    }
}

fn judge(player: &Player, pen: Pen, since: Timestamp, events: &[Event], summary: &mut Summary) {
    let mut incidents: Vec<&Incident> = player.incidents.values().filter(|i| i.opened_at >= since).collect();
    incidents.sort_by_key(|i| (i.opened_at, i.group.clone()));
    for event in events {
        let mine: Vec<IncidentSummary> =
            incidents.iter().filter(|i| cause(events, i.opened_at) == Some(event)).map(|i| shorten(i)).collect();
        summary.faults.push(FaultOutcome {
            kind: event.kind.to_string(),
            agent: event.agent.map(|a| format!("a{a}")),
            start: event.start,
            end: event.end,
            found: !mine.is_empty(),
            delay_seconds: mine.first().map(|i| (i.opened_at.ms() - event.start.ms()) as f64 / 1000.0),
            incidents: mine,
        });
    }
    summary.false_incidents =
        incidents.iter().filter(|i| cause(events, i.opened_at).is_none()).map(|i| shorten(i)).collect();
    summary.false_alarms = summary.false_incidents.len();
    summary.watched_seconds = (player.swarm.now().ms() - since.ms()) as f64 / 1000.0;

    let mut t = table(&["fault", "agent", "found", "delay", "worst in", "peak", "incidents in"], 3);
    for f in &summary.faults {
        let top = f.incidents.iter().max_by(|a, b| a.peak_score.total_cmp(&b.peak_score));
        let mut groups: Vec<&str> = f.incidents.iter().map(|i| short_group(&i.group)).collect();
        groups.dedup();
        t.add_row([
            f.kind.clone(),
            f.agent.clone().unwrap_or_else(|| "all".to_owned()),
            if f.found { "yes" } else { "missed" }.to_owned(),
            f.delay_seconds.map_or("-".to_owned(), |d| format!("{d:.2} s")),
            top.map_or("-", |i| short_group(&i.group)).to_owned(),
            top.map_or("-".to_owned(), |i| number(i.peak_score)),
            if groups.is_empty() { "-".to_owned() } else { groups.join(" ") },
        ]);
    }
    pen.gap();
    pen.table(&t);
    pen.say(&format!("{} false incidents in {:.0} s", summary.false_alarms, summary.watched_seconds));
}

/// `a2` for the group of agent 2, `swarm` for the whole.
fn short_group(group: &str) -> &str {
    group.split_once("agent=\"").and_then(|(_, rest)| rest.split('"').next()).unwrap_or("swarm")
}

fn shorten(incident: &Incident) -> IncidentSummary {
    let f = incident;
    IncidentSummary {
        group: f.group.clone(),
        opened_at: incident.opened_at,
        resolved_at: incident.resolved_at,
        peak_score: f.peak_score,
        kind: f.kind.clone(),
        contributors: f
            .contributors
            .iter()
            .take(5)
            .map(|c| ContributorSummary {
                metric: c.signal.clone(),
                share: c.share,
                actual: c.actual,
                expected: c.expected,
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreglow_lab::FaultKind;

    #[test]
    fn incidents_are_put_down_to_the_fault_that_explains_them() {
        let event = |start: i64, end: i64| Event {
            kind: FaultKind::SlowAgent,
            agent: Some(1),
            start: Timestamp(start),
            end: Timestamp(end),
        };
        let events = [event(10_000, 19_000), event(30_000, 39_000)];
        assert_eq!(cause(&events, Timestamp(9_999)), None);
        assert_eq!(cause(&events, Timestamp(10_000)), Some(&events[0]));
        assert_eq!(cause(&events, Timestamp(23_000)), Some(&events[0]));
        assert_eq!(cause(&events, Timestamp(23_001)), None);
        assert_eq!(cause(&events, Timestamp(31_000)), Some(&events[1]));
    }

    #[test]
    fn names() {
        assert_eq!(short_group(r#"{agent="a2",service="swarm"}"#), "a2");
        assert_eq!(short_group(r#"{service="swarm"}"#), "swarm");
        assert_eq!(clock(Timestamp(1_767_225_600_000 + 3_723_450)), "01:02:03.4");
        assert_eq!(describe(&plan::faults()[0]), "slow agent on agent a2 for 9 s");
    }
}
