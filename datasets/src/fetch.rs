use crate::catalogue::{Entry, Origin};
use crate::write::{atomically, hex};
use crate::{Dataset, DatasetError, Licence, OpenOptions, Source, TidyData, TidyMeta, write_tidy};
use foreglow_core::Labels;
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchOptions {
    /// The checksum to hold the bytes to, in hex; overrides the catalogue's and is needed where the catalogue has none.
    pub sha256: Option<String>,
    /// Another address of the same bytes: a mirror.
    pub url: Option<String>,
    /// Most bytes taken. Default 1 GiB.
    pub max_bytes: u64,
    /// Longest wait for the connection and for each read. Default 30 s.
    pub timeout: Duration,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self { sha256: None, url: None, max_bytes: 1 << 30, timeout: Duration::from_secs(30) }
    }
}

/// A fetched dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The tidy folder.
    pub dir: PathBuf,
    /// The file as it came, inside the folder.
    pub source: PathBuf,
    /// Checksum of that file.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    /// The terms of use, to be shown.
    pub licence: String,
}

/// Downloads a catalogue entry that is a plain file, verifies its checksum and converts it to the tidy layout in
/// `root/<name>` (slashes become underscores). `progress` is told the bytes so far and, if the server says so, of how many.
///
/// There is one attempt. An entry without a verified checksum is refused unless the caller passes one.
///
/// # Errors
/// [`DatasetError::Catalogue`] for entries that are no plain file or lack a checksum, [`DatasetError::Download`],
/// [`DatasetError::Checksum`], and what reading the file meets. Nothing half-done stays behind.
pub fn fetch(
    entry: &Entry,
    root: &Path,
    options: &FetchOptions,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<Fetched, DatasetError> {
    let Origin::File { url, sha256, series } = &entry.origin else {
        return Err(DatasetError::Catalogue {
            name: entry.name.to_owned(),
            problem: "is no plain file that can be fetched; point --data at a folder that holds it in the tidy layout"
                .into(),
        });
    };
    let Some(expected) = options.sha256.as_deref().or(*sha256) else {
        return Err(DatasetError::Catalogue {
            name: entry.name.to_owned(),
            problem: format!(
                "the catalogue holds no verified checksum for {url}; download it once yourself, look at it, and pass its sum with --sha256"
            ),
        });
    };
    let dir = root.join(entry.name.replace('/', "_"));
    let fresh = !dir.exists();
    let source = dir.join("source.csv");
    let mut run = || {
        std::fs::create_dir_all(&dir).map_err(|e| DatasetError::io(&dir, "create", e))?;
        let bytes = download(options.url.as_deref().unwrap_or(url), &source, expected, options, progress)?;
        let mut table = Dataset::open(&source, &OpenOptions::default())?.load_all(None)?;
        for t in &mut table {
            (*series).clone_into(&mut t.id);
            t.labels = Labels::new([("series", *series)]);
        }
        let meta = TidyMeta {
            name: entry.name.to_owned(),
            title: entry.title.to_owned(),
            tasks: entry.tasks.iter().map(|t| (*t).to_owned()).collect(),
            licence: Licence { id: entry.licence.to_owned(), ..Licence::default() },
            split_rule: "70/10/20 by time (ours)".into(),
            sources: vec![Source { url: (*url).to_owned(), ..Source::default() }],
            ..TidyMeta::default()
        };
        write_tidy(&dir, &TidyData { meta, series: table, events: Vec::new() })?;
        Ok(bytes)
    };
    match run() {
        Ok(bytes) => {
            Ok(Fetched { dir, source, sha256: expected.to_ascii_lowercase(), bytes, licence: entry.licence.to_owned() })
        }
        Err(e) => {
            if fresh {
                // The first error is the one to report.
                let _ = std::fs::remove_dir_all(&dir);
            }
            Err(e)
        }
    }
}

/// Downloads `url` to `to` and verifies the bytes; returns their number. The file appears only when all of it came and
/// the checksum holds; an older file of that name stays until then.
///
/// # Errors
/// [`DatasetError::Download`] for a refused connection, a status other than 200, a body cut short or too large;
/// [`DatasetError::Checksum`] for other bytes.
pub fn download(
    url: &str,
    to: &Path,
    sha256: &str,
    options: &FetchOptions,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<u64, DatasetError> {
    let fail = |problem: String| DatasetError::Download { url: url.to_owned(), problem };
    if sha256.len() != 64 || !sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(DatasetError::Param {
            field: "sha256",
            value: sha256.to_owned(),
            allowed: "64 hexadecimal digits",
        });
    }
    let mut config = ureq::Agent::config_builder()
        .timeout_connect(Some(options.timeout))
        .timeout_recv_response(Some(options.timeout))
        .timeout_per_read(Some(options.timeout));
    // A proxy is for the outside; it cannot reach this machine's own loopback.
    if ["http://127.", "http://localhost", "http://[::1]"].iter().any(|p| url.starts_with(p)) {
        config = config.proxy(None);
    }
    let agent: ureq::Agent = config.build().into();
    let response = agent.get(url).call().map_err(|e| fail(e.to_string()))?;
    let total =
        response.headers().get("content-length").and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if total.is_some_and(|t| t > options.max_bytes) {
        return Err(fail(format!("{} bytes announced, at most {} are taken", total.unwrap_or(0), options.max_bytes)));
    }
    let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
    let mut bytes = 0u64;
    atomically(to, |file| {
        let mut hash = Sha256::new();
        let mut buffer = vec![0u8; 1 << 16];
        loop {
            let n =
                body.read(&mut buffer).map_err(|e| fail(format!("the transfer broke off after {bytes} bytes: {e}")))?;
            if n == 0 {
                break;
            }
            bytes += n as u64;
            if bytes > options.max_bytes {
                return Err(fail(format!("more than {} bytes", options.max_bytes)));
            }
            hash.update(&buffer[..n]);
            file.write_all(&buffer[..n]).map_err(|e| DatasetError::io(to, "write", e))?;
            progress(bytes, total);
        }
        if total.is_some_and(|t| t != bytes) {
            return Err(fail(format!("{bytes} bytes came, {} were announced", total.unwrap_or(0))));
        }
        let actual = hex(&hash.finalize());
        if !actual.eq_ignore_ascii_case(sha256) {
            return Err(DatasetError::Checksum {
                place: url.to_owned(),
                expected: sha256.to_ascii_lowercase(),
                actual,
                remedy: "nothing was kept; the source may have changed",
            });
        }
        Ok(())
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const CSV: &str = "timestamp,value\n2014-02-14 14:30:00,0.132\n2014-02-14 14:35:00,0.134\n2014-02-14 14:40:00,\n";

    /// Answers one request with these bytes.
    fn serve(answer: String) -> (String, std::thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/f.csv", listener.local_addr().unwrap());
        let handle = std::thread::spawn(move || {
            let (mut s, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut b = [0u8; 1];
            while !request.ends_with(b"\r\n\r\n") {
                s.read_exact(&mut b).unwrap();
                request.push(b[0]);
            }
            s.write_all(answer.as_bytes()).unwrap();
        });
        (url, handle)
    }

    fn ok(body: &str, announced: usize) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {announced}\r\nConnection: close\r\n\r\n{body}")
    }

    fn sum(text: &str) -> String {
        hex(&Sha256::digest(text.as_bytes()))
    }

    fn entry() -> &'static Entry {
        crate::find("nab/ec2_cpu_utilization_24ae8d").unwrap()
    }

    fn attempt(answer: String, sha256: &str) -> (tempfile::TempDir, Result<Fetched, DatasetError>) {
        let (url, server) = serve(answer);
        let root = tempfile::tempdir().unwrap();
        let o = FetchOptions { sha256: Some(sha256.into()), url: Some(url), ..FetchOptions::default() };
        let got = fetch(entry(), root.path(), &o, &mut |_, _| {});
        server.join().unwrap();
        (root, got)
    }

    #[test]
    fn a_verified_file_becomes_a_tidy_set() {
        let (_root, got) = attempt(ok(CSV, CSV.len()), &sum(CSV));
        let got = got.unwrap();
        assert_eq!((got.bytes, got.licence.as_str()), (CSV.len() as u64, "MIT"));
        assert_eq!(std::fs::read_to_string(&got.source).unwrap(), CSV);
        let set = Dataset::open(&got.dir, &OpenOptions::default()).unwrap();
        let t = set.load_series("realAWSCloudwatch/ec2_cpu_utilization_24ae8d", None).unwrap();
        assert_eq!((t.len(), t.columns[0][1]), (3, 0.134));
        assert!(t.columns[0][2].is_nan());
    }

    #[test]
    fn nothing_stays_behind() {
        let wrong = "0".repeat(64);
        for (answer, sha, part) in [
            (ok(CSV, CSV.len()), wrong.as_str(), "sha256 is"),
            (ok(&CSV[..20], CSV.len()), sum(CSV).as_str(), "nothing was kept"),
            ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into(), sum(CSV).as_str(), "404"),
            (ok("timestamp,value\nx,1\n", 20), sum("timestamp,value\nx,1\n").as_str(), "row 1"),
        ] {
            let (root, got) = attempt(answer, sha);
            let e = got.unwrap_err().to_string();
            assert!(e.contains(part), "{e}");
            assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0, "{e}");
        }
    }

    #[test]
    fn an_older_file_survives_a_failed_download() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("f.csv");
        std::fs::write(&to, "old").unwrap();
        let (url, server) = serve(ok("new", 3));
        let o = FetchOptions { max_bytes: 2, ..FetchOptions::default() };
        assert!(download(&url, &to, &sum("new"), &o, &mut |_, _| {}).is_err());
        server.join().unwrap();
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn without_a_checksum_nothing_is_fetched() {
        let root = tempfile::tempdir().unwrap();
        let e = fetch(entry(), root.path(), &FetchOptions::default(), &mut |_, _| {}).unwrap_err().to_string();
        assert!(e.contains("--sha256"), "{e}");
        let e =
            fetch(crate::find("smd_a").unwrap(), root.path(), &FetchOptions::default(), &mut |_, _| {}).unwrap_err();
        assert!(e.to_string().contains("no plain file"), "{e}");
    }
}
