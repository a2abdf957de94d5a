# shellcheck shell=bash
# Builds the images and brings them to the registry. Whatever happens, nobody stays logged in.

is_logged_in=0

log_in_to_registry() {
    [ -n "$REGISTRY_HOST" ] || return 0
    is_logged_in=1
    run_with_input "$REGISTRY_PASSWORD_FILE" docker login --username "$REGISTRY_USER" --password-stdin "$REGISTRY_HOST"
}

# Also after a failure: called when the script ends.
log_out_of_registry() {
    [ "$is_logged_in" = 1 ] || return 0
    is_logged_in=0
    run docker logout "$REGISTRY_HOST" || echo "deploy/deploy: could not log out of $REGISTRY_HOST" >&2
}

build_images() {
    if [ "${SKIP_BUILD:-}" = 1 ]; then
        say 'the images are there already (SKIP_BUILD)'
        return
    fi
    build_image server "$DEPLOY_IMAGE:$DEPLOY_TAG"
    if [ -n "$MIRROR_STREAMS" ]; then
        build_image mirror "$DEPLOY_IMAGE-sync:$DEPLOY_TAG"
    fi
}

build_image() {
    run docker buildx build --platform "$DEPLOY_PLATFORMS" --target "$1" --tag "$2" --push "$top"
}
