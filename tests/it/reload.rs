//! Artifacts come, go and break while clients post: nothing is lost and nobody waits.

use foreglow_tests::testkit::{Server, Table, train};
use serde_json::json;
use std::path::PathBuf;

async fn fit(data: PathBuf, registry: PathBuf, seed: &'static str) -> String {
    tokio::task::spawn_blocking(move || {
        let (data, registry) = (data.to_str().unwrap(), registry.to_str().unwrap());
        let arguments =
            ["fit", "--data", data, "--train-share", "0.8", "--registry", registry, "--name", "shop", "--seed", seed];
        train(&arguments).unwrap();
        let list = train(&["inspect", "--registry", registry]).unwrap();
        list.to_string()
    })
    .await
    .unwrap()
}

/// The ids under `registry/shop`.
fn ids(server: &Server) -> Vec<String> {
    let folders = std::fs::read_dir(server.registry().join("shop")).unwrap().map(|e| e.unwrap());
    let mut ids: Vec<String> = folders
        .filter(|e| e.path().join("manifest.json").exists())
        .map(|e| e.file_name().into_string().unwrap())
        .collect();
    ids.sort();
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_artifact_takes_over_without_a_lost_request() {
    let table = Table::new(640);
    let server = Server::start().await;
    let data = table.write(server.folder(), 480);
    let client = server.client();

    // One client posts a row at a time, all the while.
    let poster = {
        let (client, table) = (client.clone(), table.clone());
        tokio::spawn(async move {
            let mut models = Vec::new();
            for row in 480..640 {
                let reply = client.post("/v1/score", &table.body(row..row + 1)).await.ok();
                assert_eq!(reply["accepted"], 6, "row {row}: {reply}");
                models.push(reply["results"][0]["model"].as_str().unwrap().to_owned());
                if row % 20 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            models
        })
    };
    fit(data.clone(), server.registry(), "1").await;
    let first = ids(&server);
    assert_eq!(first.len(), 1);
    assert_eq!(client.post("/v1/models/reload", &json!({})).await.ok()["changed"].as_bool(), Some(true));
    fit(data, server.registry(), "2").await;
    let both = ids(&server);
    let second = both.iter().find(|id| !first.contains(id)).expect("another seed, another artifact").clone();
    let registry = server.registry();
    let promoted = second.clone();
    tokio::task::spawn_blocking(move || {
        train(&["promote", "--registry", registry.to_str().unwrap(), "shop", &promoted]).unwrap();
    })
    .await
    .unwrap();
    client.post("/v1/models/reload", &json!({})).await.ok();
    poster.await.unwrap();

    let served = client.get("/v1/models").await.ok();
    let current: Vec<&str> = served["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|m| m["current"] == true && m["model"] != "online")
        .map(|m| m["model"].as_str().unwrap())
        .collect();
    assert_eq!(current, [format!("shop/{second}")]);

    // A damaged artifact is named and not served; what served goes on.
    let weights = server.registry().join("shop").join(&second).join("weights.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    client.post("/v1/models/reload", &json!({})).await;
    let table = Table::new(700);
    let reply = client.post("/v1/score", &table.body(640..650)).await.ok();
    assert_eq!(reply["accepted"], 60, "{reply}");
    let models = client.get("/v1/models").await.ok();
    let broken = models["items"].as_array().unwrap().iter().find(|m| m["model"] == format!("shop/{second}")).unwrap();
    assert!(broken["error"].is_string() || broken["served"] == true, "{broken}");
}
