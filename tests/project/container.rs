//! The container is one that works: what the Dockerfile and compose.yaml say fits the program and the project.
//!
//! Docker itself builds it only where it runs; this reads what docker would.

use std::process::{Command, Stdio};

use crate::docs::{Broker, page_text, root};

const BINARY: &str = env!("CARGO_BIN_EXE_leveret");

#[test]
fn the_image_is_built_from_what_is_there_and_runs_as_nobody_in_particular() {
    let dockerfile = Dockerfile::read();
    let stages: Vec<&str> = dockerfile.all("FROM").collect();
    assert_eq!(stages.len(), 2, "a stage that builds and one that runs: {stages:?}");
    for copy in dockerfile.all("COPY").filter(|copy| !copy.starts_with("--from=")) {
        let source = copy.split(' ').next().unwrap();
        assert!(root().join(source).exists(), "COPY {copy}: there is no {source}");
    }
    let [user] = dockerfile.all("USER").collect::<Vec<_>>()[..] else { panic!("not one USER") };
    assert!(user != "root" && user != "0", "it runs as {user}");
    assert!(dockerfile.run_text().contains(&format!("-o {user} -g {user} -m 0750 /var/lib/leveret")));
    let [volume] = dockerfile.all("VOLUME").collect::<Vec<_>>()[..] else { panic!("not one VOLUME") };
    assert_eq!(volume, r#"["/var/lib/leveret"]"#);
}

#[test]
fn the_settings_of_the_image_are_settings() {
    let mut show = Command::new(BINARY);
    show.args(["config", "show", "--json"]).env_clear().env("LEVERET_DEFAULT_PASSWORD", "s3cret");
    show.envs(Dockerfile::read().environment());
    let output = show.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let settings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(settings["data"]["value"], "/var/lib/leveret/data");
    assert_eq!(settings["listen"]["value"], "0.0.0.0:7672");
}

#[test]
fn the_image_serves_and_is_healthy_as_long_as_the_broker_answers() {
    let dockerfile = Dockerfile::read();
    let words = |instruction: &str| -> Vec<String> {
        let [text] = dockerfile.all(instruction).collect::<Vec<_>>()[..] else {
            panic!("not one {instruction}")
        };
        let list = text.find('[').expect("a list, so that no shell is needed");
        serde_json::from_str(&text[list..]).unwrap()
    };
    assert_eq!([words("ENTRYPOINT"), words("CMD")].concat(), ["leveret", "serve"]);

    let check = words("HEALTHCHECK");
    assert_eq!(check[0], "leveret");
    let status = |url: &str| {
        let mut command = Command::new(BINARY);
        command.args(&check[1..]).env_clear().env("LEVERET_URL", url);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().code().unwrap()
    };
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(&data);
    let url = broker.url().to_owned();
    assert_eq!(status(&url), 0);
    broker.stop();
    // Docker knows 0 and 1.
    assert_eq!(status(&url), 1);
}

#[test]
fn compose_starts_the_image_with_settings_and_a_volume() {
    let entries = entries(&page_text("compose.yaml"));
    let value = |path: &str| entries.iter().find(|(key, _)| key == path).map(|(_, value)| value.as_str());
    assert_eq!(value("services.leveret.build"), Some("."));
    assert_eq!(value("services.leveret.volumes.-"), Some("data:/var/lib/leveret"));
    assert_eq!(value("volumes.data"), Some(""));
    assert_eq!(
        value("services.leveret.ports.-"),
        Some("\"127.0.0.1:7672:7672\""),
        "reached from this machine only"
    );

    let mut show = Command::new(BINARY);
    show.args(["config", "show"]).env_clear();
    let settings = entries
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix("services.leveret.environment.")?, value)));
    let settings: Vec<_> = settings.collect();
    assert_eq!(settings.len(), 3, "{settings:?}");
    let output = show.envs(settings).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

struct Dockerfile(Vec<(String, String)>);

impl Dockerfile {
    /// Instructions and what stands behind them, with lines that go on joined.
    fn read() -> Self {
        let text = page_text("Dockerfile");
        let lines = text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
        let joined = lines.replace("\\\n", " ");
        let instructions = joined.lines().filter(|line| !line.trim().is_empty()).map(|line| {
            let (instruction, rest) = line.split_once(' ').unwrap_or_else(|| panic!("nothing behind {line}"));
            const KNOWN: [&str; 12] = [
                "FROM",
                "WORKDIR",
                "COPY",
                "RUN",
                "ENV",
                "USER",
                "VOLUME",
                "EXPOSE",
                "STOPSIGNAL",
                "HEALTHCHECK",
                "ENTRYPOINT",
                "CMD",
            ];
            assert!(KNOWN.contains(&instruction), "{instruction} is no instruction");
            (instruction.to_owned(), rest.split_whitespace().collect::<Vec<_>>().join(" "))
        });
        Self(instructions.collect())
    }

    fn all(&self, instruction: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(name, _)| name == instruction).map(|(_, rest)| rest.as_str())
    }

    fn run_text(&self) -> String {
        self.all("RUN").collect::<Vec<_>>().join("\n")
    }

    fn environment(&self) -> Vec<(&str, &str)> {
        let settings: Vec<_> =
            self.all("ENV").flat_map(|env| env.split(' ')).map(|one| one.split_once('=').unwrap()).collect();
        assert!(settings.len() > 1, "{settings:?}");
        settings
    }
}

/// The values of a YAML file as plain as ours, by their paths; what stands in a list is named "-".
fn entries(text: &str) -> Vec<(String, String)> {
    let mut path: Vec<(usize, String)> = Vec::new();
    let mut entries = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
        assert!(!line.contains('\t'), "YAML knows no tabs: {line}");
        let content = line.trim_start();
        let indent = line.len() - content.len();
        path.retain(|(of, _)| *of < indent);
        let (key, value) = match content.strip_prefix("- ") {
            Some(item) => ("-", item),
            None => content.split_once(':').unwrap_or_else(|| panic!("neither a key nor an item: {line}")),
        };
        path.push((indent, key.to_owned()));
        let names: Vec<&str> = path.iter().map(|(_, name)| name.as_str()).collect();
        entries.push((names.join("."), value.trim().to_owned()));
    }
    entries
}
