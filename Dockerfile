# The server and the mirror, for linux/amd64 and linux/arm64.
#
#   docker build -t tailwater .                            the server
#   docker build -t tailwater-sync --target mirror .       the mirror
#   docker buildx build --platform linux/amd64,linux/arm64 .
#
# Each platform is built natively: on a machine of that platform, or under emulation. There is no cross compiler in it.
# docs/deployment.md tells how they are brought to machines.

# The images that it begins with. A registry of your own has them under other names: --build-arg BUILD_IMAGE=...
ARG BUILD_IMAGE=rust:1.95-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

# ---- build: the whole distribution, with a C compiler and make for the libraries that contain C
FROM ${BUILD_IMAGE} AS build
ARG TARGETARCH
WORKDIR /source
COPY . .
# Cargo goes by times, and the cache of `target` is older or newer than these sources: those of another version, built there
# later than these were written, would be taken for them. So all of them are new.
# Pages of memory are up to 64 KiB on arm64, and the allocator has to be built for the largest that it will meet. (Older
# versions of Podman do not set TARGETARCH.)
# Line numbers, for whoever reports a panic, are most of a program, so they are compressed.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/source/target,id=tailwater-target-${TARGETARCH},sharing=locked \
    if [ "$(uname -m)" = aarch64 ]; then export JEMALLOC_SYS_WITH_LG_PAGE=16; fi \
    && find . -path ./target -prune -o -type f -exec touch {} + \
    && cargo build --release --locked -p tailwater -p tailwater-sync \
    && mkdir -p /out/bin /out/data \
    && for program in tailwater tailwater-sync; do \
        objcopy --compress-debug-sections=zlib "target/release/${program}" "/out/bin/${program}" || exit 1; \
    done

# ---- runtime: what a program that is linked to glibc needs, and the certificates of authorities; no shell, no packages.
# A slim Debian is larger, for a shell that nobody needs and packages that have to be kept patched. Alpine
# would need another C library under the allocator. It is of the same Debian as the build, so glibc fits.
FROM ${RUNTIME_IMAGE} AS runtime
LABEL org.opencontainers.image.title="Tailwater" \
      org.opencontainers.image.description="Append-only streams over plain HTTP" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/bin/ /usr/local/bin/
# `nonroot` of the base image, as a number, so that Kubernetes can see that it is not root.
USER 65532:65532
ENV DS_LOG__FORMAT=json \
    DS_SYNC__LOG_FORMAT=json
STOPSIGNAL SIGTERM

# ---- mirror: tailwater-sync, into PostgreSQL. It waits for servers that are away, so its health is that it is up.
FROM runtime AS mirror
ENV DS_SYNC__BIND_ADDRESS=[::]:4438
EXPOSE 4438
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 \
    CMD ["tailwater", "health", "--alive", "--url", "http://127.0.0.1:4438"]
ENTRYPOINT ["tailwater-sync"]

# ---- server: the last one, and so the one that is built unless another target is named
FROM runtime AS server
COPY --from=build --chown=65532:65532 /out/data/ /data/
# The store is a directory in the volume and not the volume itself, which may have a `lost+found`.
ENV DS_SERVER__BIND_ADDRESS=[::]:4437 \
    DS_STORAGE__MODE=file-durable \
    DS_STORAGE__DATA_DIR=/data/store
EXPOSE 4437
VOLUME ["/data"]
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 \
    CMD ["tailwater", "health"]
ENTRYPOINT ["tailwater"]
