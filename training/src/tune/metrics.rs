//! Metrics out of a run: JSON, patterns, the exit code, the time it took.

use super::process::{End, Finished};
use foreglow_search::Aggregate;
use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// Where a metric is found: exactly one of `json`, `pattern`, `exit_code` and `seconds`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricSpec {
    /// The metric.
    pub name: String,
    /// Path in the JSON that the command prints, such as `latency.p95` or `/latency/p95`: a number, or a list of numbers,
    /// which the objective's `aggregate` makes one. The whole standard output is the JSON, or its last line that is an
    /// object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<String>,
    /// A regular expression whose group `value`, or else first group, is the number. It is searched in standard output
    /// and, when it is not there, in standard error; the numbers of several matches are aggregated. `^` and `$` are line
    /// ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// The exit code is the metric: then a code above 0 is not a failure.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exit_code: bool,
    /// The seconds that the run took.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub seconds: bool,
}

#[derive(Debug, Clone)]
enum Place {
    Json(String),
    Pattern(Regex),
    ExitCode,
    Seconds,
}

/// What reads all metrics that a study needs.
#[derive(Debug, Clone)]
pub(crate) struct Readers {
    readers: Vec<(String, Aggregate, Place)>,
}

impl Readers {
    /// A reader for each needed metric; one without a declaration is a key of the command's JSON.
    pub(crate) fn new(needed: &[(String, Aggregate)], specs: &[MetricSpec]) -> Result<Self, String> {
        let mut readers = Vec::new();
        for (name, aggregate) in needed {
            let mut declared = specs.iter().filter(|s| s.name == *name);
            let place = match (declared.next(), declared.next()) {
                (None, _) => Place::Json(format!("/{}", name.replace('~', "~0").replace('/', "~1"))),
                (Some(spec), None) => place(spec).map_err(|e| format!("metrics: `{name}`: {e}"))?,
                (Some(_), Some(_)) => return Err(format!("metrics: `{name}` is declared twice")),
            };
            readers.push((name.clone(), *aggregate, place));
        }
        Ok(Self { readers })
    }

    /// The metrics of a run.
    ///
    /// # Errors
    /// Why there are none: it failed, or a metric is missing or no number.
    pub(crate) fn read(&self, run: &Finished) -> Result<BTreeMap<String, f64>, String> {
        let code = match run.end {
            End::Code(code) => code,
            End::Signal(n) => return Err(format!("it was ended by signal {n}{}", run.last_words())),
            End::TimedOut(limit) => {
                return Err(format!("it took longer than {} s and was ended{}", limit.as_secs_f64(), run.last_words()));
            }
            End::Stopped => return Err("it was stopped".to_owned()),
        };
        let wanted = self.readers.iter().any(|r| matches!(r.2, Place::ExitCode));
        if code != 0 && !wanted {
            return Err(format!("it ended with code {code}{}", run.last_words()));
        }
        let json = self.readers.iter().any(|r| matches!(r.2, Place::Json(_))).then(|| printed(&run.stdout)).flatten();
        let mut out = BTreeMap::new();
        for (name, aggregate, place) in &self.readers {
            let missing = |what: &str| format!("metric `{name}`: {what}{}", run.last_words());
            let samples = match place {
                Place::ExitCode => vec![f64::from(code)],
                Place::Seconds => vec![run.seconds],
                Place::Json(pointer) => match &json {
                    None => return Err(missing("the command printed no JSON object")),
                    Some(v) => in_json(v, pointer).map_err(|e| missing(&e))?,
                },
                Place::Pattern(pattern) => in_text(run, pattern).map_err(|e| missing(&e))?,
            };
            if let Some(v) = samples.iter().find(|v| !v.is_finite()) {
                return Err(missing(&format!("{v} is no number")));
            }
            let value = aggregate.of(&samples, run.seconds.max(1e-9));
            out.insert(name.clone(), value.ok_or_else(|| missing("an empty list"))?);
        }
        Ok(out)
    }
}

fn place(spec: &MetricSpec) -> Result<Place, String> {
    let given = [spec.json.is_some(), spec.pattern.is_some(), spec.exit_code, spec.seconds];
    if given.iter().filter(|g| **g).count() != 1 {
        return Err("give exactly one of `json`, `pattern`, `exit_code = true` and `seconds = true`".to_owned());
    }
    if let Some(path) = &spec.json {
        if path.starts_with('/') {
            return Ok(Place::Json(path.clone()));
        }
        return Ok(Place::Json(format!("/{}", path.replace(['.', '['], "/").replace(']', ""))));
    }
    if let Some(pattern) = &spec.pattern {
        let regex = Regex::new(&format!("(?m){pattern}")).map_err(|e| format!("`pattern`: {e}"))?;
        if regex.captures_len() < 2 {
            return Err(format!(
                "`pattern` has no group: put parentheses around the number, such as {pattern} = ([0-9.]+)"
            ));
        }
        return Ok(Place::Pattern(regex));
    }
    Ok(if spec.exit_code { Place::ExitCode } else { Place::Seconds })
}

/// The JSON that a command printed: all of its output, or the last line that is an object.
fn printed(stdout: &str) -> Option<Json> {
    let object = |t: &str| serde_json::from_str::<Json>(t).ok().filter(Json::is_object);
    object(stdout).or_else(|| stdout.lines().rev().map(str::trim).filter(|l| l.starts_with('{')).find_map(object))
}

fn in_json(json: &Json, pointer: &str) -> Result<Vec<f64>, String> {
    let found = json.pointer(pointer).ok_or_else(|| format!("the JSON has nothing at {pointer}"))?;
    let number = |v: &Json| v.as_f64().ok_or_else(|| format!("the JSON has {v} at {pointer}, which is no number"));
    match found {
        Json::Array(list) => list.iter().map(number).collect(),
        v => Ok(vec![number(v)?]),
    }
}

fn in_text(run: &Finished, pattern: &Regex) -> Result<Vec<f64>, String> {
    for text in [&run.stdout, &run.stderr] {
        let found: Vec<&str> = pattern
            .captures_iter(text)
            .filter_map(|c| c.name("value").or_else(|| (1..c.len()).find_map(|i| c.get(i))))
            .map(|m| m.as_str())
            .collect();
        if !found.is_empty() {
            let number =
                |t: &&str| t.trim().parse().map_err(|_| format!("the pattern found {t:?}, which is no number"));
            return found.iter().map(number).collect();
        }
    }
    Err(format!("the pattern {} is nowhere in the output", pattern.as_str().trim_start_matches("(?m)")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(code: i32, stdout: &str, stderr: &str) -> Finished {
        Finished { end: End::Code(code), stdout: stdout.into(), stderr: stderr.into(), seconds: 2.0 }
    }

    fn read(spec: &str, aggregate: Aggregate, run: &Finished) -> Result<f64, String> {
        let spec: MetricSpec = toml::from_str(&format!("name = \"y\"\n{spec}")).unwrap();
        let readers = Readers::new(&[("y".to_owned(), aggregate)], &[spec])?;
        Ok(readers.read(run)?["y"])
    }

    #[test]
    fn values_are_found() {
        let mean = Aggregate::Mean;
        let noisy = ran(0, "starting {\n{\"a\":{\"y\":[1,2,9]}}\ndone\n", "y: 5\n");
        assert_eq!(read("json = \"a.y\"", mean, &noisy), Ok(4.0));
        assert_eq!(read("json = \"/a/y/2\"", mean, &noisy), Ok(9.0));
        assert_eq!(read("json = \"a.y\"", Aggregate::Max, &noisy), Ok(9.0));
        assert_eq!(read("json = \"a.y\"", Aggregate::Rate, &noisy), Ok(6.0));
        assert_eq!(read("pattern = '^y: (\\d+)$'", mean, &noisy), Ok(5.0));
        assert_eq!(read("pattern = '(?:y: |z)(?P<value>\\d+)'", mean, &ran(0, "z1 z3", "y: 9")), Ok(2.0));
        assert_eq!(read("exit_code = true", mean, &ran(7, "", "")), Ok(7.0));
        assert_eq!(read("seconds = true", mean, &ran(0, "", "")), Ok(2.0));
        let plain = Readers::new(&[("a/b".to_owned(), mean)], &[]).unwrap();
        assert_eq!(plain.read(&ran(0, "{\n \"a/b\": -1e3\n}", "")).unwrap()["a/b"], -1000.0);
    }

    #[test]
    fn what_is_missing_has_a_reason() {
        let bad = |spec: &str, run: &Finished| read(spec, Aggregate::Mean, run).unwrap_err();
        assert!(bad("json = \"y\"", &ran(0, "fine", "")).contains("no JSON object; it said: fine"));
        assert!(bad("json = \"y\"", &ran(0, "{\"x\":1}", "")).contains("nothing at /y"));
        assert!(bad("json = \"y\"", &ran(0, "{\"y\":\"fast\"}", "")).contains("\"fast\""));
        assert!(bad("json = \"y\"", &ran(0, "{\"y\":[]}", "")).contains("empty"));
        assert!(bad("pattern = 'y (\\S+)'", &ran(0, "y soon", "")).contains("\"soon\""));
        assert!(bad("pattern = 'y (\\S+)'", &ran(0, "y nan", "")).contains("NaN is no number"));
        assert!(bad("pattern = 'y (\\S+)'", &ran(0, "", "")).contains("nowhere"));
        assert!(bad("seconds = true", &ran(2, "", "out of memory")).contains("code 2; it said: out of memory"));
        assert!(bad("pattern = '('", &ran(0, "", "")).contains("pattern"));
        assert!(bad("exit_code = true\nseconds = true", &ran(0, "", "")).contains("exactly one"));
        assert!(
            bad(
                "seconds = true",
                &Finished { end: End::TimedOut(std::time::Duration::from_secs(2)), ..ran(0, "", "") }
            )
            .contains("longer than 2 s")
        );
    }
}
