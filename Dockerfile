# Two images of one program and its launcher. `cuda`, the default, uses the GPU that it is given and computes on the
# processor where there is none; `--target cpu` is small and leaves all of CUDA out.
#
# The bases are arguments, `name:tag` or `name:tag@sha256:digest`; README.md says how a release pins
# them. Nothing is installed from a package archive, so the digests, Cargo.lock and the one version
# below fix what goes in. `--no-default-features` leaves out the page of `explore`, and with it every
# crate that knows networks.
ARG RUST_BASE=rust:1.95-slim-bookworm
ARG CPU_BASE=debian:bookworm-slim
# 12.8 is the first CUDA whose cuBLAS knows Blackwell, and all of 12 runs on drivers from 525 on.
# Ubuntu 22.04 has the oldest glibc of those on offer, hence a binary that starts on every base.
ARG CUDA_BUILD_BASE=nvidia/cuda:12.8.1-cudnn-devel-ubuntu22.04
ARG CUDA_RUN_BASE=nvidia/cuda:12.8.1-base-ubuntu22.04

# `cargo auditable` puts the list of crates and versions (the SBOM) into the binary itself.
FROM ${RUST_BASE} AS rust
RUN cargo install --debug --locked --version =0.7.7 cargo-auditable

FROM rust AS build-cpu
WORKDIR /build
ENV CARGO_PROFILE_RELEASE_STRIP=symbols
# Dependencies first, against an empty crate: this layer changes only with the manifest.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src && echo 'fn main() {}' > src/main.rs && touch src/lib.rs \
    && cargo auditable build --release --locked --no-default-features --bin stylegan2-c2d \
    && rm -r src
COPY README.md algorithm.json build.rs ./
COPY src src
# The empty crate's files are newer than the copied ones. The launcher, process 1 of a job, has no
# dynamic loader that the environment could tell what to load: only its last step is another, so
# nothing is compiled twice.
RUN touch src/main.rs src/lib.rs \
    && cargo auditable build --release --locked --no-default-features --bin stylegan2-c2d \
    && cargo auditable rustc --release --locked --no-default-features --bin stylegan2-c2d-job -- -C target-feature=+crt-static

FROM ${CUDA_BUILD_BASE} AS build-cuda
COPY --from=rust /usr/local/rustup /usr/local/rustup
COPY --from=rust /usr/local/cargo /usr/local/cargo
WORKDIR /build
# The kernels are PTX of capability 7.5, which the driver compiles for the GPU at hand: Turing to
# Blackwell. cudarc is held to the functions of CUDA 12.0, the oldest of the series, and opens each
# library at its first use. docker/nvcc and docker/rustc say what they do beyond nvcc and rustc.
ENV RUSTUP_HOME=/usr/local/rustup \
    CARGO_HOME=/usr/local/cargo \
    PATH=/usr/local/cargo/bin:/usr/local/cuda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    CARGO_PROFILE_RELEASE_STRIP=symbols \
    CUDA_COMPUTE_CAP=75 \
    CUDARC_CUDA_VERSION=12000 \
    NVCC=/build/docker/nvcc \
    RUSTC_WRAPPER=/build/docker/rustc
COPY docker docker
COPY Cargo.toml Cargo.lock ./
RUN mkdir src && echo 'fn main() {}' > src/main.rs && touch src/lib.rs \
    && cargo auditable build --release --locked --no-default-features --features cuda --bin stylegan2-c2d \
    && rm -r src
COPY README.md algorithm.json build.rs ./
COPY src src
RUN touch src/main.rs src/lib.rs \
    && cargo auditable build --release --locked --no-default-features --features cuda --bin stylegan2-c2d \
    && cargo auditable rustc --release --locked --no-default-features --features cuda --bin stylegan2-c2d-job -- -C target-feature=+crt-static

# What the program opens on a GPU, and nothing else of the toolkit: cuBLAS, cuRAND, and cuDNN
# without the part for recurrent networks and attention (libcudnn_adv). NVRTC is there for cuDNN,
# some of whose convolutions are compiled when they are first used.
FROM ${CUDA_BUILD_BASE} AS cuda-libraries
RUN mkdir /libraries && cd /usr/local/cuda/lib64 \
    && cp -L libcublas.so.12 libcublasLt.so.12 libcurand.so.10 libnvrtc.so.12 libnvrtc-builtins.so.12.* /libraries/ \
    && cd /usr/lib/x86_64-linux-gnu \
    && cp -L libcudnn.so.9 libcudnn_cnn.so.9 libcudnn_ops.so.9 libcudnn_graph.so.9 libcudnn_heuristic.so.9 \
        libcudnn_engines_precompiled.so.9 libcudnn_engines_runtime_compiled.so.9 /libraries/

# Both images have sh, mkdir, tee and du, which the compute stacks call. No USER: the current node
# sets 1000, the older stack needs root. No CMD: with no arguments the program runs the job on /data.
FROM ${CPU_BASE} AS cpu
ARG REVISION=unknown
LABEL org.opencontainers.image.title="stylegan2-c2d" \
      org.opencontainers.image.description="Trains StyleGAN2 where the pictures are: an Ocean Compute-to-Data algorithm" \
      org.opencontainers.image.source="https://github.com/example/stylegan2-c2d" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT"
COPY --chmod=0644 LICENSE /usr/share/doc/stylegan2-c2d/LICENSE
COPY --from=build-cpu --chmod=0755 /build/target/release/stylegan2-c2d /build/target/release/stylegan2-c2d-job /usr/local/bin/
WORKDIR /
ENTRYPOINT ["/usr/local/bin/stylegan2-c2d-job"]

FROM ${CUDA_RUN_BASE} AS cuda
ARG REVISION=unknown
LABEL org.opencontainers.image.title="stylegan2-c2d" \
      org.opencontainers.image.description="Trains StyleGAN2 where the pictures are: an Ocean Compute-to-Data algorithm" \
      org.opencontainers.image.source="https://github.com/example/stylegan2-c2d" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT AND LicenseRef-NVIDIA-CUDA"
# NVIDIA's base refuses to start on a driver older than its own toolkit; ours may be older, and where
# it will not do, the program itself says so in the job's log. The driver's cache of compiled
# kernels would need a home folder and is of no use to a container that runs once.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    NVIDIA_DISABLE_REQUIRE=1 \
    CUDA_CACHE_DISABLE=1
COPY --from=cuda-libraries /libraries/ /usr/local/lib/
RUN ldconfig
COPY --chmod=0644 LICENSE /usr/share/doc/stylegan2-c2d/LICENSE
COPY --from=build-cuda --chmod=0755 /build/target/release/stylegan2-c2d /build/target/release/stylegan2-c2d-job /usr/local/bin/
WORKDIR /
ENTRYPOINT ["/usr/local/bin/stylegan2-c2d-job"]
