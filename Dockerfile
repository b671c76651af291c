# syntax=docker/dockerfile:1

# The same commands as on a developer's machine (Makefile): one profile, the workspace as a
# whole. The caches survive between builds, so only the first compiles RocksDB.
FROM rust:1.95-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends libclang-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/target,sharing=locked \
    CARGO_TARGET_DIR=/target cargo build --locked --workspace \
    && strip -o /usr/local/bin/aegis /target/debug/aegis

FROM debian:bookworm-slim
RUN useradd --uid 10001 --user-group --home-dir /var/lib/aegis --no-create-home --shell /usr/sbin/nologin aegis \
    && install -d -o aegis -g aegis -m 700 /var/lib/aegis
COPY --from=build /usr/local/bin/aegis /usr/local/bin/aegis
COPY LICENSE /usr/share/doc/aegis/LICENSE
USER aegis
# One node's folder, as `aegis init` makes it: node.toml, keys, certificates and data.
WORKDIR /var/lib/aegis
VOLUME /var/lib/aegis
# HTTP, peers, events.
EXPOSE 8003 8004 8006
# Fails while the node does not answer at AEGIS_ENDPOINT, http://127.0.0.1:8003 by default. Where
# `api.open_reads` is false it needs AEGIS_TOKEN_FILE, too.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["aegis", "status", "--timeout", "4"]
# The node handles SIGTERM itself, as process 1 too: it hands over the lead, finishes the
# requests under way and starts no other process.
STOPSIGNAL SIGTERM
ENTRYPOINT ["aegis"]
CMD ["serve", "--config", "/var/lib/aegis/node.toml"]
