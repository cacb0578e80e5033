//! A study that was killed or interrupted goes on.

use crate::tune::{BENCH, Place, STUDY, json};

/// The script kills the program that runs it: always at the same run, without waiting for anything.
#[test]
fn a_killed_study_goes_on_as_if_nothing_had_happened() {
    let place = Place::new();
    assert_eq!(json(&place, STUDY, BENCH)["complete"], true);
    let whole = place.read("study.journal");
    let kill = "#!/bin/sh\nonce=$(dirname \"$0\")/killed.$FOREGLOW_TUNE_TRIAL\n\
        case $FOREGLOW_TUNE_TRIAL.$FOREGLOW_TUNE_RUN in 0.1 | 1.2 | 4.1 | 9.1 | 13.1 | 14.1 | 17.2 | 21.2)\n\
        [ -e $once ] || { : > $once; kill -9 $PPID; exit 0; } ;; esac\n";
    let place = Place::new();
    let script = format!("{kill}{}", BENCH.trim_start_matches("#!/bin/sh\n"));
    // The last three in the confirmation: in its first run, and in the second configuration of its second and last round.
    for lines in [1, 2, 5, 10, 14, 15, 16, 18] {
        assert_eq!(place.tune(STUDY, &script, "").code, -1, "killed");
        assert_eq!(place.read("study.journal").lines().count(), lines);
        // A write that the end cut short.
        let cut = format!("{}{{\"trial\":{{\"id\"", place.read("study.journal"));
        place.text("study.journal", &cut);
    }
    assert_eq!(json(&place, STUDY, &script)["complete"], true);
    let same = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(same(&place.read("study.journal")), same(&whole), "every trial and round, to the last bit");
}

/// The script asks the program to stop, as a terminal's Ctrl-C does.
#[test]
fn an_interrupted_study_names_the_best_and_goes_on() {
    let place = Place::new();
    let body = BENCH.trim_start_matches("#!/bin/sh\n");
    let script = format!(
        "[ $FOREGLOW_TUNE_TRIAL = 9 ] && [ ! -e \"$0\".once ] && {{ : > \"$0\".once; kill -INT $PPID; sleep 600; }}\n{body}"
    );
    let ran = place.tune(STUDY, &script, "");
    let error = ran.error(1);
    for part in ["interrupted", "9 of 14 trials", "the best so far is trial", "80 %", "95 %", "goes on"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(ran.out.is_empty(), "nothing that could be taken for a result");
    assert_eq!(json(&place, STUDY, &script)["complete"], true);
}

/// The same in the confirmation: what is known is said, and it goes on with the same round.
#[test]
fn an_interrupted_confirmation_says_what_is_known_and_goes_on() {
    let place = Place::new();
    let body = BENCH.trim_start_matches("#!/bin/sh\n");
    let script = format!(
        "[ \"$FOREGLOW_TUNE_ROUND\" = 3 ] && [ ! -e \"$0\".once ] && {{ : > \"$0\".once; kill -INT $PPID; sleep 600; }}\n{body}"
    );
    let ran = place.tune(STUDY, &script, "");
    let error = ran.error(1);
    for part in
        ["14 of 14 trials", "nothing is confirmed yet", "promised ms -", "over 2 rounds it was -", "2 of 4 rounds"]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(ran.out.is_empty(), "nothing that could be taken for a result");
    assert_eq!(json(&place, STUDY, &script)["confirmation"]["verdict"], "confirmed");
}
