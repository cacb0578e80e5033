use crate::kit::{Ran, train};
use serde_json::Value;
use std::path::{Path, PathBuf};

pub(crate) const STUDY: &str = r#"name = "toy"
budget = { trials = 14 }
seed = 3
entity = { namespace = "shop", deployment = "api", container = "app" }
[objective]
metric = "ms"
goal = "min"
[[parameters]]
name = "workers"
type = "int"
low = 1
high = 32
current = 28
[[parameters]]
name = "share"
type = "float"
low = 0.0
high = 1.0
current = 0.1
cost = "restart"
[run]
warmup = 0
repeats = 2
"#;

/// A valley with its bottom at 9 workers and a share of 0.6, and noise that depends on trial and run alone.
pub(crate) const BENCH: &str = r#"#!/bin/sh
awk -v w="$1" -v s="$2" -v t="$FOREGLOW_TUNE_TRIAL" -v r="$FOREGLOW_TUNE_RUN" 'BEGIN {
    x = (t * 7919 + r * 104729 + 17) % 1000 / 1000 - 0.5
    printf "{\"ms\": %.6f, \"w\": %d}\n", 40 + 0.2 * (w - 9) ^ 2 + 60 * (s - 0.6) ^ 2 + 2 * x, w
}'
"#;

pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn text(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Runs `study` with a script that is interpreted by the shell.
    pub(crate) fn tune(&self, study: &str, script: &str, more: &str) -> Ran {
        let (study, script) = (self.text("study.toml", study), self.text("bench.sh", script));
        train(&format!("{more} tune --study {{}} -- sh {{}} {{workers}} {{share}}"), &[&study, &script])
    }
}

/// [`train`] fills `{}` only, so the command's own placeholders pass through it.
pub(crate) fn json(place: &Place, study: &str, script: &str) -> Value {
    place.tune(study, script, "--format json").json()
}

#[test]
fn a_noisy_valley_is_found() {
    let place = Place::new();
    let found = json(&place, STUDY, BENCH);
    assert_eq!((found["complete"].as_bool(), found["trials"].as_array().map(Vec::len)), (Some(true), Some(14)));
    assert_eq!(found["trials"][0]["parameters"]["workers"], 28, "the current configuration comes first");
    let r = &found["recommendation"];
    let to = |name: &str| r["parameters"][name].as_f64().unwrap_or(f64::NAN);
    assert!((to("workers") - 9.0).abs() <= 4.0 && (to("share") - 0.6).abs() < 0.2, "{r}");
    let effect = &r["effect"][0]["relative"];
    // From 127.2 to about 40.
    assert!(effect["mean"].as_f64().is_some_and(|m| (-0.75..-0.55).contains(&m)), "{effect}");
    for interval in ["i80", "i95"] {
        assert!(effect[interval][0].as_f64() < effect["mean"].as_f64(), "{effect}");
    }
    assert!(r["evidence"]["replicates"].as_u64() >= Some(14) && !r["rollback"].is_null(), "{r}");
    let again = place.tune(STUDY, "exit 9", "");
    assert_eq!(again.code, 0, "a finished study runs nothing more: {}", again.err);
    let c = &r["confirmation"];
    assert_eq!((&c["verdict"], &c["rounds"], &c["planned"]), (&"confirmed".into(), &4.into(), &4.into()), "{r}");
    assert_eq!(effect, &c["measured"][0]["relative"], "the promise is what was measured in turn: {c}");
    assert!(c["promised"]["mean"].as_f64().is_some_and(|m| (-0.75..-0.55).contains(&m)), "{c}");
    let first = |n: usize| found["rounds"][n]["recommended_first"].as_bool().expect("an order");
    assert!(first(0) != first(1) && first(2) != first(3), "in turn: {}", found["rounds"]);
    for part in
        ["best so far", "80 %", "evidence", "drivers", "rollback", "restart", "confirmed over 4 rounds", "measured on"]
    {
        assert!(again.out.contains(part), "{part}: {}", again.out);
    }
    assert!(again.out.lines().any(|l| l.ends_with("repeats 9")), "the best few are told apart: {}", again.out);
}

#[test]
fn hopeless_trials_end_early() {
    let place = Place::new();
    let study = format!("designer = \"random\"\n{STUDY}confirm = 0\n");
    assert_eq!(json(&place, &study, BENCH)["complete"], true);
    let again = place.tune(&study, "exit 9", "");
    let pruned = again.out.lines().filter(|l| l.contains("1 of 2 runs: clearly worse than the best")).count();
    assert!((2..12).contains(&pruned), "{}", again.out);
}

/// Something else made the differences between the trials: no model of them can know, measuring in turn can.
#[test]
fn what_does_not_hold_in_turn_is_not_recommended() {
    let place = Place::new();
    let study = STUDY.replace("[objective]", "remeasure_every = 0\n[objective]");
    let script = BENCH.replace("0.2 *", "(t < 14) * 0.2 *").replace("60 *", "(t < 14) * 60 *");
    let found = json(&place, &study, &script);
    let (c, none) = (&found["confirmation"], found["recommendation"]["none_because"].as_str().unwrap_or_default());
    assert_eq!((&c["verdict"], c["why"].as_str()), (&"refused".into(), Some(none)), "{c}");
    let promised = c["promised"]["mean"].as_f64().unwrap_or_default();
    assert!(none.contains(&format!("promised ms {:+.1} %", 100.0 * promised)) && promised < -0.5, "{none}");
    assert!(
        none.contains("measured in turn with the current configuration over") && none.contains("rounds it was "),
        "{none}"
    );
    let ran = place.tune(&study, "exit 9", "");
    assert!(ran.out.contains("recommendation  none: the model") && ran.out.contains("refused over"), "{}", ran.out);
    let form = |kind: &str| {
        let args = format!("tune --study {{}} --emit {kind} -- sh {{}} {{workers}} {{share}}");
        train(&args, &[&place.path("study.toml"), &place.path("bench.sh")]).out
    };
    for kind in ["text", "env", "sql", "kubectl"] {
        let text = form(kind);
        assert!(text.lines().all(|l| l.starts_with('#') || l.starts_with("--")) && text.contains("promised"), "{text}");
    }
}

#[test]
fn an_unmeasured_promise_says_that_it_is_unverified() {
    let place = Place::new();
    let study = format!("{STUDY}confirm = 0\n");
    let found = json(&place, &study, BENCH);
    let r = &found["recommendation"];
    assert_eq!(
        (&r["confirmation"]["verdict"], &r["evidence"]["unverified"]),
        (&"unverified".into(), &true.into()),
        "{r}"
    );
    assert_eq!(place.read("study.journal").lines().count(), 15, "nothing more was measured");
    assert!(place.tune(&study, "exit 9", "").out.contains("unverified"));
    let args = "tune --study {} --emit env -- sh {} {workers} {share}";
    let ran = train(args, &[&place.path("study.toml"), &place.path("bench.sh")]);
    assert!(ran.out.starts_with("# study toy: UNVERIFIED"), "{}", ran.out);
    // Measured later, without a trial more.
    let found = json(&place, &format!("{STUDY}confirm = 3\n"), BENCH);
    assert_eq!((found["confirmation"]["rounds"].as_u64(), place.read("study.journal").lines().count()), (Some(3), 18));
}

#[test]
fn a_confirmation_minds_guard_rails_and_failures() {
    let place = Place::new();
    let study = format!("{STUDY}[[guard_rails]]\nmetric = \"w\"\nat_most = 30\n");
    let breaks = BENCH.replace("x, w", "x, (t > 13 && w < 20) ? 31 : w");
    let found = json(&place, &study, &breaks);
    let none = found["recommendation"]["none_because"].as_str().unwrap_or_default();
    assert!(none.contains("guard-rail broken: `w` was 31") && none.contains("over 1 round it was"), "{none}");
    let place = Place::new();
    let script = format!(
        "[ \"$FOREGLOW_TUNE_ROUND\" = 2 ] && [ $1 != 28 ] && {{ echo no memory >&2; exit 3; }}\n{}",
        BENCH.trim_start_matches("#!/bin/sh\n")
    );
    let found = json(&place, STUDY, &script);
    let none = found["recommendation"]["none_because"].as_str().unwrap_or_default();
    assert!(
        none.contains("in round 2 the recommended configuration could not be measured") && none.contains("no memory"),
        "{none}"
    );
}

#[test]
fn what_goes_wrong_is_a_state_with_a_reason() {
    let place = Place::new();
    let study = STUDY.replace("repeats = 2", "repeats = 2\ntimeout = \"2s\"\nstop_after_failures = 14");
    let body = BENCH.trim_start_matches("#!/bin/sh\n");
    let script = format!(
        "case $FOREGLOW_TUNE_TRIAL in 2) echo no memory >&2; exit 3 ;; 3) sleep 600 & wait ;; 4) echo fine; exit 0 ;;\n\
         5) kill -9 $$ ;; 6) echo '{{\"ms\": \"fast\"}}'; exit 0 ;; 7) echo '{{\"ms\": 1e300}}'; exit 0 ;; esac\n{body}"
    );
    let found = json(&place, &study, &script);
    let trial = |n: usize| {
        let t = &found["trials"][n];
        assert!(t["measurement"].is_null(), "a failure is never a number: {t}");
        t["state"]["failed"]["reason"].as_str().unwrap_or_default().to_owned()
    };
    assert!(trial(2).contains("run 1 of 2: it ended with code 3; it said: no memory"), "{}", trial(2));
    assert!(trial(3).contains("longer than 2 s"), "{}", trial(3));
    assert!(trial(4).contains("`ms`: the command printed no JSON object; it said: fine"), "{}", trial(4));
    assert!(trial(5).contains("signal 9"), "{}", trial(5));
    assert!(trial(6).contains("no number"), "{}", trial(6));
    assert!(trial(7).contains("too large"), "{}", trial(7));
    assert_eq!(found["trials"].as_array().map(Vec::len), Some(14), "the study goes on");

    let place = Place::new();
    let fails = format!("[ $FOREGLOW_TUNE_TRIAL -gt 1 ] && exit 7\n{body}");
    let ended = json(&place, STUDY, &fails);
    assert_eq!(ended["trials"].as_array().map(Vec::len), Some(7), "five in a row are enough");
    assert!(ended["ended_because"].as_str().is_some_and(|b| b.contains("5 trials failed") && b.contains("code 7")));
    assert!(ended["recommendation"]["none_because"].is_string(), "no recommendation is an answer");

    let place = Place::new();
    let ran = place.tune(STUDY, "echo no such table >&2; exit 4", "");
    assert!(ran.error(1).contains("code 4; it said: no such table") && ran.err.contains("start again"), "{}", ran.err);
    assert_eq!(place.read("study.journal").lines().count(), 1, "no trial is kept");
    let right = STUDY.replace("repeats = 2", "repeats = 1");
    assert_eq!(json(&place, &right, BENCH)["complete"], true, "a study that was put right begins anew");
}

#[test]
fn metrics_come_from_json_patterns_exit_codes_and_clocks() {
    let place = Place::new();
    let study = STUDY.replace("trials = 14", "trials = 2")
        + "[[guard_rails]]\nmetric = \"code\"\nat_most = 5\n[[guard_rails]]\nmetric = \"seen\"\nat_least = 1\n\
           [[guard_rails]]\nmetric = \"spent\"\nat_most = 100\n[[guard_rails]]\nmetric = \"deep\"\naggregate = \"max\"\nat_most = 8\n\
           [[metrics]]\nname = \"ms\"\npattern = '^ms: ([0-9.]+)$'\n[[metrics]]\nname = \"code\"\nexit_code = true\n\
           [[metrics]]\nname = \"seen\"\npattern = 'saw (\\d+)'\n[[metrics]]\nname = \"spent\"\nseconds = true\n\
           [[metrics]]\nname = \"deep\"\njson = \"a.list\"\n";
    let script = "echo 'ms: 12.5'; echo 'ms: 13.5'; echo '{\"a\":{\"list\":[1,7,3]}}'; echo saw 6 >&2; \
                  [ $FOREGLOW_TUNE_TRIAL = 1 ] && exit 9; exit 5";
    let found = json(&place, &study, script);
    let t = &found["trials"][0];
    assert_eq!((&t["measurement"]["value"], &t["measurement"]["replicates"]), (&13.0.into(), &2.into()));
    let metric = |n: &str| t["measurement"]["metrics"][n]["value"].as_f64();
    assert_eq!((metric("code"), metric("seen"), metric("deep")), (Some(5.0), Some(6.0), Some(7.0)));
    assert!(metric("spent").is_some_and(|s| s > 0.0 && s < 100.0));
    let t = &found["trials"][1];
    assert!(t["state"]["unsafe"]["reason"].as_str().is_some_and(|r| r.contains("code")), "{t}");
    assert_eq!(t["measurement"]["replicates"], 1, "what breaks a guard-rail is not run again: {t}");
}

#[test]
fn changes_are_applied_restarted_and_put_back() {
    let place = Place::new();
    let log = place.path("log");
    let study = STUDY.replace("trials = 14", "trials = 4")
        + &format!(
            "apply = \"cat >> {0}\"\napply_as = \"text\"\nrestart = \"echo restart {{share}} >> {0}\"\n\
             reload = \"echo reload >> {0}\"\n",
            log.display()
        );
    let study = study.replace("current = 28\n", "current = 28\ncost = \"reload\"\n");
    let found = json(&place, &study, BENCH);
    assert_eq!(found["trials"].as_array().map(Vec::len), Some(4));
    let log = place.read("log");
    assert!(log.starts_with("workers 28\nshare 0.1\nrestart 0.1\n"), "{log}");
    assert!(log.ends_with("workers 28\nshare 0.1\nrestart 0.1\n"), "put back at the end: {log}");
    assert_eq!(log.matches("restart").count(), 5, "once a trial that changes the share, and back: {log}");
    let before = log.len();
    assert_eq!(place.tune(&study, BENCH, "").code, 0);
    assert_eq!(place.read("log").len(), before, "a finished study touches nothing");
}

#[test]
fn a_careful_study_keeps_its_guard_rail() {
    let place = Place::new();
    let study = STUDY.replace("[objective]", "mode = \"canary\"\n[objective]")
        + "[[guard_rails]]\nmetric = \"ms\"\nat_most = \"1.1*baseline\"\n";
    let found = json(&place, &study, BENCH);
    let trials = found["trials"].as_array().expect("trials");
    let broke = trials.iter().filter(|t| !t["state"]["unsafe"].is_null()).count();
    assert!(trials.len() >= 10 && broke <= 1, "{broke} of {} trials were unsafe", trials.len());
    let value = |t: &Value| t["measurement"]["value"].as_f64().unwrap_or(f64::INFINITY);
    assert!(trials.iter().map(value).fold(f64::INFINITY, f64::min) < 0.8 * value(&trials[0]), "and it gains");
}

/// What was recommended, in each form; the numbers of the promise depend on rounding and are left out.
#[test]
fn forms_that_apply_a_recommendation() {
    let place = Place::new();
    json(&place, STUDY, BENCH);
    let form = |kind: &str| {
        let (study, script) = (place.path("study.toml"), place.path("bench.sh"));
        let args = format!("tune --study {{}} --emit {kind} -- sh {{}} {{workers}} {{share}}");
        let ran = train(&args, &[&study, &script]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.out
    };
    let r: Value = serde_json::from_str(&form("json")).expect("JSON");
    let share: f64 = r["parameters"]["share"].as_f64().map_or(f64::NAN, |s| (s * 1e12).round() / 1e12);
    let (w, s) = (r["parameters"]["workers"].to_string(), share.to_string());
    assert!(r["expires"].is_null() && r["effect"][0]["relative"]["i80"].is_array(), "{r}");
    let rest = |text: &str| {
        let (first, rest) = text.split_once('\n').expect("lines");
        assert!(first.contains("study toy: ms -") && first.contains("95 %"), "{first}");
        assert!(first.contains("measured in turn over 4 rounds"), "{first}");
        rest.replace(&s, "SHARE")
            .replace(&format!(" {w}\n"), " WORKERS\n")
            .replace(&format!("={w}\n"), "=WORKERS\n")
            .replace(&format!("'{w}'"), "'WORKERS'")
            .replace(&format!("\"{w}\""), "\"WORKERS\"")
    };
    assert_eq!(rest(&form("text")), "workers WORKERS\nshare SHARE\n# the way back:\n# workers 28\n# share 0.1\n");
    assert_eq!(rest(&form("env")), "WORKERS=WORKERS\nSHARE=SHARE\n# the way back:\n# WORKERS=28\n# SHARE=0.1\n");
    assert_eq!(
        rest(&form("sql")),
        "ALTER SYSTEM SET workers = 'WORKERS';\nALTER SYSTEM SET share = 'SHARE';\nSELECT pg_reload_conf();\n\
         -- the server must be restarted for share\n-- the way back:\n-- ALTER SYSTEM SET workers = '28';\n\
         -- ALTER SYSTEM SET share = '0.1';\n"
    );
    let patch = |w: &str, s: &str| {
        format!(
            "kubectl --namespace shop patch deployment api --type strategic --patch '{{\"spec\":{{\"template\":{{\"spec\":\
             {{\"containers\":[{{\"env\":[{{\"name\":\"WORKERS\",\"value\":\"{w}\"}},{{\"name\":\"SHARE\",\"value\":\"{s}\"}}],\
             \"name\":\"app\"}}]}}}}}}}}'\n"
        )
    };
    let (to, back) = (patch("WORKERS", "SHARE"), patch("28", "0.1"));
    assert_eq!(rest(&form("kubectl")), format!("{to}# the way back:\n# {back}"));

    let out = place.path("change.sql");
    let args = "tune --study {} --emit sql --out {} -- sh {} {workers} {share}";
    let ran = train(args, &[&place.path("study.toml"), &out, &place.path("bench.sh")]);
    assert!(ran.code == 0 && ran.out.contains("recommendation") && place.read("change.sql").contains("ALTER SYSTEM"));
}

#[test]
fn a_wrong_study_names_field_and_remedy() {
    let place = Place::new();
    let script = place.text("bench.sh", BENCH);
    let fails = |study: &str, command: &str, part: &str| {
        let path = place.text("wrong.toml", study);
        let ran = train(&format!("tune --study {{}} -- sh {{}} {command}"), &[&path, &script]);
        assert!(ran.error(2).contains(part), "{part}: {}", ran.err);
        assert!(!place.path("wrong.journal").exists(), "{part}: no journal is begun");
    };
    fails(&STUDY.replace("goal = \"min\"", ""), "", "there is no default");
    fails(&STUDY.replace("high = 32", "high = 0"), "", "low <= high");
    fails(&STUDY.replace("current = 28", "current = 99"), "", "[1, 32]");
    fails(&STUDY.replace("repeats = 2", "repeat = 2"), "", "repeat");
    fails(&format!("colour = 1\n{STUDY}"), "", "colour");
    fails(&format!("mode = \"canary\"\n{STUDY}"), "", "guard_rails");
    fails(&format!("space = \"oracle\"\n{STUDY}"), "", "postgresql, jvm, nginx");
    fails(STUDY, "{worker}", "workers, share");
    fails(&STUDY.replace("trials = 14", "trials = 0"), "", "at least 1");
    let nowhere = Path::new("/nowhere/study.toml");
    assert!(train("tune --study {} -- true", &[nowhere]).error(2).contains("study.toml"));
    assert_eq!(train("tune --study {}", &[nowhere]).code, 2, "a command is needed");
    let study = place.text("study.toml", &STUDY.replace("deployment = \"api\", ", ""));
    assert!(train("tune --study {} --emit kubectl -- true", &[&study]).error(2).contains("deployment"));
    json(&place, &STUDY.replace("trials = 14", "trials = 1"), BENCH);
    let other = place.tune(&STUDY.replace("seed = 3", "seed = 4"), BENCH, "");
    assert!(other.error(2).contains("--journal"), "{}", other.err);
}

#[test]
fn the_commented_study_is_sound() {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let text = std::fs::read_to_string(configs.join("studies/commented.toml")).expect("read");
    let file = foreglow_training::tune::StudyFile::parse(&text).expect("sound");
    assert!(file.spec().expect("sound").check().is_ok());
    assert_eq!(file.run, foreglow_training::tune::RunSpec::default(), "the comments say what the defaults are");
}
