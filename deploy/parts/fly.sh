# shellcheck shell=bash
# Fly: one app for the server, one for Envoy before it, one for the mirror, in a private network of their own.

# What ran before, as "APP FILE IMAGE" each. Envoy's image does not change with our version.
images_before=()

# Fly's installer brings it under both names, Fly's action for GitHub under the longer one alone.
fly() {
    if type -P fly >/dev/null; then command fly "$@"; else command flyctl "$@"; fi
}

check_fly() {
    if ! type -P fly >/dev/null && ! type -P flyctl >/dev/null; then
        mistake 'there is neither fly nor flyctl on PATH; install flyctl'
    fi
    needed FLY_APP
    if [ -n "$FLY_APP" ] && ! [[ $FLY_APP =~ ^[a-z][a-z0-9-]{0,40}$ ]]; then
        mistake "FLY_APP is '$FLY_APP'; use up to 41 small letters, digits and -"
    fi
    if [ -z "${FLY_API_TOKEN:-}" ] && [ -z "$FLY_API_TOKEN_FILE" ]; then
        mistake 'FLY_API_TOKEN_FILE is missing; name a file with a token that fly has made, or set FLY_API_TOKEN'
    fi
}

prepare_fly() {
    if [ -n "$FLY_API_TOKEN_FILE" ]; then
        # In the environment of fly alone, and in no arguments.
        FLY_API_TOKEN=$(cat "$FLY_API_TOKEN_FILE")
    fi
    export FLY_API_TOKEN
    cp "$here/fly/$environment/"*.toml "$generated/edge/"
    stage_secrets "$FLY_APP" "SERVER_CERTIFICATE=$SERVER_CERTIFICATE_FILE" "SERVER_KEY=$SERVER_KEY_FILE" \
        "SERVER_CA=$SERVER_CA_FILE"
    stage_secrets "$FLY_APP-edge" "SERVER_CA=$SERVER_CA_FILE" "EDGE_CERTIFICATE=$EDGE_CERTIFICATE_FILE" \
        "EDGE_KEY=$EDGE_CERTIFICATE_KEY_FILE"
    if [ -n "$MIRROR_STREAMS" ]; then
        stage_secrets "$FLY_APP-mirror" "SERVER_CA=$SERVER_CA_FILE" "MIRROR_POSTGRES_URL=$MIRROR_POSTGRES_URL_FILE"
    fi
}

# Secrets that count from the next deployment on; Fly wants those that become files in base64.
stage_secrets() {
    local app=$1 pair
    shift
    (
        umask 077
        for pair in "$@"; do
            printf '%s=%s\n' "${pair%%=*}" "$(base64 <"${pair#*=}" | tr -d '\n')"
        done >"$generated/secrets"
    )
    run_with_input "$generated/secrets" fly secrets import --stage --app "$app"
    rm -f "$generated/secrets"
}

roll_out_fly() {
    if [ "${DRY_RUN:-}" != 1 ]; then
        remember_image "$FLY_APP" fly.toml
        [ -z "$MIRROR_STREAMS" ] || remember_image "$FLY_APP-mirror" mirror.toml
    fi
    deploy_app "$FLY_APP" fly.toml --image "$DEPLOY_IMAGE:$DEPLOY_TAG" --env "DS_HTTP__CORS_ORIGINS=$SERVER_CORS_ORIGINS" \
        --env "TAILWATER_URL=https://$SERVER_NAME:4437/v1/stream" || return 1
    deploy_app "$FLY_APP-edge" edge.toml || return 1
    if [ -n "$MIRROR_STREAMS" ]; then
        deploy_app "$FLY_APP-mirror" mirror.toml --image "$DEPLOY_IMAGE-sync:$DEPLOY_TAG" \
            --env "DS_SYNC__SOURCE_URL=https://$SERVER_NAME:4437/v1/stream" --env "DS_SYNC__STREAMS=$MIRROR_STREAMS" || return 1
    fi
}

# One machine for each app: of the server there may be only one, and Fly would make two.
deploy_app() {
    local app=$1 file=$2
    shift 2
    # Files that it names are beside it.
    (cd "$generated/edge" && run fly deploy --app "$app" --config "$file" --ha=false --yes "$@")
}

# The image of the newest release; none before the first one.
remember_image() {
    local image
    image=$(fly releases --app "$1" --json 2>/dev/null |
        tr ',' '\n' | sed -n 's/.*"ImageRef": *"\([^"]*\)".*/\1/p' | awk 'NR == 1')
    [ -z "$image" ] || images_before+=("$1 $2 $image")
}

roll_back_fly() {
    if [ ${#images_before[@]} -eq 0 ]; then
        echo 'deploy/deploy: nothing ran before' >&2
        return 1
    fi
    local entry app file image result=0
    for entry in "${images_before[@]}"; do
        read -r app file image <<<"$entry"
        if [ "$file" = mirror.toml ]; then
            deploy_app "$app" "$file" --image "$image" --env "DS_SYNC__SOURCE_URL=https://$SERVER_NAME:4437/v1/stream" \
                --env "DS_SYNC__STREAMS=$MIRROR_STREAMS" || result=1
        else
            deploy_app "$app" "$file" --image "$image" --env "DS_HTTP__CORS_ORIGINS=$SERVER_CORS_ORIGINS" \
                --env "TAILWATER_URL=https://$SERVER_NAME:4437/v1/stream" || result=1
        fi
    done
    return "$result"
}

# Fly keeps one value of each secret.
prune_fly() {
    :
}
