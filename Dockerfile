# Leveret in a container: docs/OPERATIONS.md says how to run it.

FROM rust:1-slim-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --locked --release --bin leveret

FROM debian:bookworm-slim
RUN useradd --system --uid 7672 --no-create-home --home-dir /var/lib/leveret --shell /usr/sbin/nologin leveret \
    && install -d -o leveret -g leveret -m 0750 /var/lib/leveret
COPY --from=build /source/target/release/leveret /usr/bin/leveret
COPY LICENSE /usr/share/doc/leveret/LICENSE
# A folder within the volume: the root of a disk may hold what is not the broker's.
ENV LEVERET_LISTEN=0.0.0.0:7672 \
    LEVERET_DATA=/var/lib/leveret/data
USER leveret
VOLUME ["/var/lib/leveret"]
EXPOSE 7672
STOPSIGNAL SIGTERM
# Set LEVERET_URL to somebody who may log in. A start that reads long logs takes its time.
HEALTHCHECK --interval=30s --timeout=10s --start-period=10m --retries=3 CMD ["leveret", "ping", "--no-login"]
ENTRYPOINT ["leveret"]
CMD ["serve"]
