use crate::kit::{train, train_with_input};

#[test]
fn a_conversation_over_pipes() {
    let lines = concat!(
        r#"{"op":"start","space":[{"name":"x","type":"float","low":0,"high":1}],"budget":3,"seed":1}"#,
        "\n{\"op\":\"ask\"}\nnonsense\n{\"op\":\"tell\",\"id\":0,\"y\":2.5}\n{\"op\":\"recommend\"}\n{\"op\":\"stop\"}\n",
        "{\"op\":\"ask\"}\n"
    );
    let ran = train_with_input("search --stdio --designer sobol", &[], lines);
    let answers: Vec<serde_json::Value> = ran.out.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!((ran.code, answers.len()), (0, 6), "nothing is answered after stop: {}", ran.out);
    assert_eq!(answers[0]["ok"], true);
    assert!(answers[1]["x"]["x"].is_number());
    assert!(answers[2]["error"].as_str().is_some_and(|e| e.contains("line 3")));
    assert_eq!((&answers[4]["id"], &answers[5]["ok"]), (&0.into(), &true.into()));
    assert!(train("search --stdio --designer wizard", &[]).error(2).contains("bayes"));
}

#[test]
fn hyper_parameters_of_a_recipe() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = crate::kit::small(dir.path());
    let (recipe, best) = (dir.path().join("recipe.toml"), dir.path().join("best.toml"));
    std::fs::write(&recipe, "[forecaster]\nkind = \"ridge_lags\"\nlags = 2\npenalty = 9.0\n").expect("written");
    let args = "--format json search --data {} --recipe {} --budget 8 --horizon 12 --designer sobol --out {}";
    let found = train(args, &[&data, &recipe, &best]).json();
    assert_eq!(found["trials"].as_array().map(Vec::len), Some(8));
    assert!(found["best"]["value"].as_f64() <= found["before"].as_f64(), "{found}");
    assert_eq!(train("recipe explain {}", &[&best]).code, 0);
    let again = train(args, &[&data, &recipe, &best]).json();
    assert_eq!(found, again, "same seed, same search");

    std::fs::write(&recipe, "[forecaster]\nkind = \"naive\"\n").expect("written");
    assert!(train(args, &[&data, &recipe, &best]).error(2).contains("no parameters to search"));
    let space = dir.path().join("space.toml");
    std::fs::write(&space, "[[parameters]]\nname = \"forecaster.colour\"\ntype = \"int\"\nlow = 1\nhigh = 4\n")
        .expect("written");
    assert!(
        train(&format!("{args} --space {{}}"), &[&data, &recipe, &best, &space]).error(2).contains("forecaster.colour")
    );
    assert!(train("search", &[]).error(2).contains("--stdio"));
}
