//! What is watched: alert rules that fire when they should, panels that ask for what there
//! is, and a guide that knows both.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use aegis_api::metrics::NAMES;
use saphyr::{LoadableYamlNode, Yaml};
use serde_json::Value;

/// What Prometheus appends to a histogram's name.
const HISTOGRAM_SERIES: [&str; 3] = ["_bucket", "_sum", "_count"];

pub(crate) fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(project(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The one document of a YAML file.
pub(crate) fn yaml(text: &str) -> Yaml<'_> {
    let mut documents = Yaml::load_from_str(text).expect("YAML that parses");
    assert_eq!(documents.len(), 1);
    documents.remove(0)
}

/// The items of a list.
pub(crate) fn items<'y, 'i>(yaml: &'y Yaml<'i>) -> &'y [Yaml<'i>] {
    yaml.as_sequence()
        .map(Vec::as_slice)
        .unwrap_or_else(|| panic!("not a list: {yaml:?}"))
}

/// A panel's query, with where it stands.
#[derive(Debug)]
pub(crate) struct PanelQuery {
    pub(crate) place: String,
    pub(crate) expr: String,
}

/// The dashboards, by file name.
fn dashboards() -> Vec<(String, Value)> {
    let folder = project("config/grafana/dashboards");
    let mut found: Vec<_> = fs::read_dir(&folder)
        .expect("the dashboards' folder")
        .map(|entry| {
            entry
                .expect("a readable folder")
                .file_name()
                .into_string()
                .unwrap()
        })
        .map(|name| {
            let text = read(&format!("config/grafana/dashboards/{name}"));
            let dashboard =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, dashboard)
        })
        .collect();
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found
}

fn array(value: &Value) -> &[Value] {
    value
        .as_array()
        .unwrap_or_else(|| panic!("not a list: {value}"))
}

/// Every query of every panel.
pub(crate) fn panel_queries() -> Vec<PanelQuery> {
    dashboards()
        .iter()
        .flat_map(|(file, dashboard)| {
            array(&dashboard["panels"]).iter().flat_map(move |panel| {
                array(&panel["targets"])
                    .iter()
                    .map(move |target| PanelQuery {
                        place: format!("{file}: {}", panel["title"].as_str().unwrap()),
                        expr: target["expr"].as_str().unwrap().to_owned(),
                    })
            })
        })
        .collect()
}

/// The metrics of ours that a query names.
fn metrics_in(expr: &str) -> impl Iterator<Item = &str> {
    expr.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("aegis_") || word.starts_with("consensus_"))
        .map(|word| {
            let base = HISTOGRAM_SERIES
                .iter()
                .find_map(|suffix| word.strip_suffix(suffix));
            base.filter(|base| NAMES.contains(base)).unwrap_or(word)
        })
}

fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(project("config/prometheus"))
        .output()
        .expect("promtool runs; `make test-deps` installs it");
    assert!(
        output.status.success(),
        "promtool {arguments:?}:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}

#[test]
fn prometheus_accepts_its_configurations() {
    promtool(&["check", "config", "prometheus.yml", "local.yml"]);
}

#[test]
fn alerts_fire_when_they_should_and_are_silent_when_not() {
    promtool(&["test", "rules", "alerts_test.yml"]);
}

#[test]
fn every_alert_is_tested_both_ways_and_explained() {
    let (rules, tests) = (
        read("config/prometheus/alerts.yml"),
        read("config/prometheus/alerts_test.yml"),
    );
    let (rules, tests) = (yaml(&rules), yaml(&tests));
    let (mut fires, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for case in items(&tests["tests"])
        .iter()
        .flat_map(|test| items(&test["alert_rule_test"]))
    {
        let name = case["alertname"].as_str().unwrap();
        let set = if items(&case["exp_alerts"]).is_empty() {
            &mut silent
        } else {
            &mut fires
        };
        set.insert(name);
    }
    let guide = read("docs/operations.md");
    let headings: BTreeSet<_> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .collect();
    let mut names = BTreeSet::new();
    for rule in items(&rules["groups"])
        .iter()
        .flat_map(|group| items(&group["rules"]))
    {
        let name = rule["alert"].as_str().unwrap();
        names.insert(name);
        assert!(fires.contains(name), "no test in which {name} fires");
        assert!(silent.contains(name), "no test in which {name} is silent");
        assert!(
            headings.contains(name),
            "docs/operations.md has no section {name}"
        );
        let severity = rule["labels"]["severity"].as_str();
        assert!(
            matches!(severity, Some("critical" | "warning")),
            "{name}: {severity:?}"
        );
        assert!(rule["for"].as_str().is_some(), "{name} fires at once");
        let annotations = &rule["annotations"];
        for annotation in ["summary", "description"] {
            assert!(
                annotations[annotation].as_str().is_some(),
                "{name} has no {annotation}"
            );
        }
        let anchor = format!("docs/operations.md#{}", name.to_lowercase());
        assert_eq!(
            annotations["runbook"].as_str(),
            Some(anchor.as_str()),
            "{name}"
        );
    }
    let explained: BTreeSet<_> = headings
        .into_iter()
        .filter(|heading| heading.starts_with("Aegis"))
        .collect();
    assert_eq!(
        explained, names,
        "the guide explains the alerts that there are"
    );
}

#[test]
fn rules_and_panels_name_metrics_that_exist() {
    let rules = read("config/prometheus/alerts.yml");
    let rules = yaml(&rules);
    let alerts = items(&rules["groups"])
        .iter()
        .flat_map(|group| items(&group["rules"]))
        .map(|rule| {
            let expr = rule["expr"].as_str().unwrap().to_owned();
            PanelQuery {
                place: rule["alert"].as_str().unwrap().to_owned(),
                expr,
            }
        });
    for PanelQuery { place, expr } in alerts.chain(panel_queries()) {
        for metric in metrics_in(&expr) {
            assert!(
                NAMES.contains(&metric),
                "{place} asks for {metric}, which nobody records"
            );
        }
    }
}

#[test]
fn the_guide_lists_every_metric_and_no_other() {
    let guide = read("docs/operations.md");
    let listed: BTreeSet<_> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("aegis_") || name.starts_with("consensus_"))
        .collect();
    assert_eq!(listed, NAMES.iter().copied().collect());
}

#[test]
fn dashboards_can_be_provisioned() {
    let datasource = read("config/grafana/provisioning/datasources/prometheus.yml");
    let uid = yaml(&datasource)["datasources"][0]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut uids = BTreeSet::new();
    for (file, dashboard) in dashboards() {
        assert!(
            uids.insert(dashboard["uid"].as_str().unwrap().to_owned()),
            "{file}: uid taken"
        );
        let mut ids = BTreeSet::new();
        for panel in array(&dashboard["panels"]) {
            let title = panel["title"].as_str().unwrap();
            assert!(
                ids.insert(panel["id"].as_u64().unwrap()),
                "{file}: {title}: id taken"
            );
            assert!(
                !array(&panel["targets"]).is_empty(),
                "{file}: {title} asks nothing"
            );
            for source in array(&panel["targets"]).iter().chain([panel]) {
                assert_eq!(source["datasource"]["uid"], *uid, "{file}: {title}");
            }
        }
    }
    assert_eq!(uids.len(), 3);
}
