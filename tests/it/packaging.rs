//! The container image and the compose file, as far as they can be checked without an
//! engine to run them.

use std::collections::BTreeSet;

use crate::monitoring::{items, project, read, yaml};

#[test]
fn the_image_is_built_with_a_toolchain_that_is_new_enough() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let rust = manifest["workspace"]["package"]["rust-version"]
        .as_str()
        .unwrap();
    let dockerfile = read("Dockerfile");
    let wanted = format!("FROM rust:{rust}-bookworm AS build");
    assert!(
        dockerfile.lines().any(|line| line == wanted),
        "no line `{wanted}`"
    );
}

#[test]
fn compose_mounts_what_is_there_and_depends_on_what_it_names() {
    let text = read("compose.yaml");
    let compose = yaml(&text);
    let services = compose["services"].as_mapping().unwrap();
    let names = |key: &str| -> BTreeSet<String> {
        let mapping = compose[key].as_mapping().unwrap();
        mapping
            .keys()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    };
    let (service_names, volume_names) = (names("services"), names("volumes"));
    let mut used = BTreeSet::new();
    for service in services.values() {
        for volume in service
            .as_mapping_get("volumes")
            .map(items)
            .unwrap_or_default()
        {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            if source.starts_with('.') {
                assert!(
                    project(source).exists(),
                    "{source} is mounted and not there"
                );
            } else {
                assert!(
                    volume_names.contains(source),
                    "volume {source} is not declared"
                );
                used.insert(source.to_owned());
            }
        }
    }
    assert_eq!(used, volume_names, "volumes that nobody mounts");
    let init = compose["x-node"]["depends_on"].as_mapping().unwrap();
    for dependency in init.keys() {
        assert!(
            service_names.contains(dependency.as_str().unwrap()),
            "{dependency:?}"
        );
    }
}

#[test]
fn prometheus_scrapes_the_nodes_of_compose() {
    let (compose, prometheus) = (
        read("compose.yaml"),
        read("config/prometheus/prometheus.yml"),
    );
    let (compose, prometheus) = (yaml(&compose), yaml(&prometheus));
    let nodes: BTreeSet<String> = compose["services"]
        .as_mapping()
        .unwrap()
        .keys()
        .map(|name| name.as_str().unwrap())
        .filter(|name| name.starts_with("node-"))
        .map(|name| format!("{name}:8003"))
        .collect();
    let targets = &prometheus["scrape_configs"][0]["static_configs"][0]["targets"];
    let targets: BTreeSet<_> = items(targets)
        .iter()
        .map(|target| target.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(targets, nodes);
}
