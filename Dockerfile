# The CPU image. Bases are arguments, so that a release can pin them by digest.
ARG BUILD_BASE=rust:1.95-slim-bookworm
ARG RUN_BASE=debian:bookworm-slim

FROM ${BUILD_BASE} AS build
WORKDIR /build
# Dependencies first, against an empty crate: this layer changes only with the manifest.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
RUN mkdir src && echo 'fn main() {}' > src/main.rs && touch src/lib.rs \
    && cargo build --release --locked --bin stylegan2-c2d \
    && rm -r src
COPY README.md ./
COPY src src
# The empty crate's files are newer than the copied ones.
RUN touch src/main.rs src/lib.rs && cargo build --release --locked --bin stylegan2-c2d

# Has sh, mkdir, tee and du, which the compute stacks call. No USER: the current node sets 1000,
# the older stack needs root. No CMD: with no arguments the program runs the job on /data.
FROM ${RUN_BASE}
LABEL org.opencontainers.image.title="stylegan2-c2d" \
      org.opencontainers.image.description="Trains StyleGAN2 where the pictures are: an Ocean Compute-to-Data algorithm" \
      org.opencontainers.image.source="https://github.com/example/stylegan2-c2d" \
      org.opencontainers.image.licenses="MIT"
ENV CANDLE_GRAD_DO_NOT_DETACH=1
COPY --from=build --chmod=0755 /build/target/release/stylegan2-c2d /usr/local/bin/stylegan2-c2d
COPY --chmod=0644 LICENSE /usr/share/doc/stylegan2-c2d/LICENSE
WORKDIR /
ENTRYPOINT ["/usr/local/bin/stylegan2-c2d"]
