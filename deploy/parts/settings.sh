# shellcheck shell=bash
# Where to deploy, and the settings: read, checked, all mistakes told at once. Runs nothing.

# Every setting of a file in deploy/settings.
readonly SETTINGS="DEPLOY_IMAGE DEPLOY_PLATFORMS REGISTRY_HOST REGISTRY_USER REGISTRY_PASSWORD_FILE
    EDGE_ISSUER EDGE_AUDIENCES EDGE_JWKS_URI EDGE_CERTIFICATE_FILE EDGE_CERTIFICATE_KEY_FILE
    SERVER_NAME SERVER_CERTIFICATE_FILE SERVER_KEY_FILE SERVER_CA_FILE SERVER_CORS_ORIGINS
    MIRROR_STREAMS MIRROR_POSTGRES_URL_FILE
    HEALTHCHECK_URL HEALTHCHECK_CA_FILE HEALTHCHECK_ATTEMPTS HEALTHCHECK_INTERVAL_SECS
    FLY_APP FLY_API_TOKEN_FILE KUBE_CONTEXT KUBE_NAMESPACE KUBE_EDGE_NETWORK
    SWARM_STACK SWARM_NODE SWARM_CONTEXT SWARM_EDGE_SUBNET SECRET_KEEP_VERSIONS"

mistakes=()

mistake() {
    mistakes+=("$1")
}

stop_if_mistaken() {
    [ ${#mistakes[@]} -gt 0 ] || return 0
    echo "deploy/deploy: the settings have ${#mistakes[@]} mistakes:" >&2
    printf '  %s\n' "${mistakes[@]}" >&2
    exit 2
}

# Takes what was typed apart, into `target` and `environment`.
choose() {
    if [ $# -ne 2 ]; then
        echo 'deploy/deploy: takes a target and an environment, as: deploy/deploy kubernetes staging' >&2
        exit 2
    fi
    target=$1 environment=$2
    case $target in
        fly | kubernetes | swarm) ;;
        *) mistake "the target is '$target'; give fly, kubernetes or swarm" ;;
    esac
    case $environment in
        staging | production) ;;
        *) mistake "the environment is '$environment'; give staging or production" ;;
    esac
    stop_if_mistaken
}

# Reads NAME=VALUE lines. A variable of the environment wins. Nothing in the file is run.
load_settings() {
    local file=$1 line name number=0 shown
    shown=${file#"$top/"}
    if [ ! -e "$file" ]; then
        if [ "${DRY_RUN:-}" = 1 ]; then
            say "would copy $shown.example to $shown, which is missing"
            file=$file.example
        else
            cp "$file.example" "$file"
            chmod 600 "$file"
            say "made $shown out of $shown.example; fill it in"
        fi
    fi
    while IFS= read -r line || [ -n "$line" ]; do
        number=$((number + 1))
        case $line in
            '' | '#'*) continue ;;
        esac
        name=${line%%=*}
        if [ "$name" = "$line" ] || ! is_setting "$name"; then
            mistake "$shown:$number: '$name' is no setting; docs/deployment.md lists them"
            continue
        fi
        [ -n "${!name+set}" ] || printf -v "$name" '%s' "${line#*=}"
    done <"$file"
    for name in $SETTINGS; do
        [ -n "${!name+set}" ] || printf -v "$name" ''
    done
    HEALTHCHECK_ATTEMPTS=${HEALTHCHECK_ATTEMPTS:-24}
    HEALTHCHECK_INTERVAL_SECS=${HEALTHCHECK_INTERVAL_SECS:-5}
    SECRET_KEEP_VERSIONS=${SECRET_KEEP_VERSIONS:-3}
    DEPLOY_PLATFORMS=${DEPLOY_PLATFORMS:-linux/amd64}
    SERVER_CORS_ORIGINS=${SERVER_CORS_ORIGINS:-*}
}

is_setting() {
    local known
    for known in $SETTINGS; do
        [ "$known" = "$1" ] && return 0
    done
    return 1
}

# What is the same for all targets.
check_settings() {
    local name
    for name in DRY_RUN SKIP_BUILD SKIP_HEALTHCHECK; do
        case ${!name:-} in
            '' | 0 | 1) ;;
            *) mistake "$name is '${!name}'; give 1, or leave it out" ;;
        esac
    done
    needed DEPLOY_IMAGE EDGE_ISSUER EDGE_AUDIENCES EDGE_JWKS_URI EDGE_CERTIFICATE_FILE EDGE_CERTIFICATE_KEY_FILE \
        SERVER_NAME SERVER_CERTIFICATE_FILE SERVER_KEY_FILE SERVER_CA_FILE
    case ${DEPLOY_IMAGE##*/} in
        *:* | *@*) mistake "DEPLOY_IMAGE is '$DEPLOY_IMAGE'; leave the tag out, and give it in DEPLOY_TAG" ;;
    esac
    choose_tag
    all_or_none 'to log in to a registry' REGISTRY_HOST REGISTRY_USER REGISTRY_PASSWORD_FILE
    all_or_none 'for the mirror' MIRROR_STREAMS MIRROR_POSTGRES_URL_FILE
    for name in REGISTRY_PASSWORD_FILE EDGE_CERTIFICATE_FILE EDGE_CERTIFICATE_KEY_FILE SERVER_CERTIFICATE_FILE \
        SERVER_KEY_FILE SERVER_CA_FILE MIRROR_POSTGRES_URL_FILE HEALTHCHECK_CA_FILE FLY_API_TOKEN_FILE; do
        readable "$name"
    done
    whole_number SECRET_KEEP_VERSIONS 1
    if [ "${SKIP_HEALTHCHECK:-}" != 1 ]; then
        needed HEALTHCHECK_URL
        whole_number HEALTHCHECK_ATTEMPTS 1
        whole_number HEALTHCHECK_INTERVAL_SECS 0
    fi
    case $EDGE_JWKS_URI in
        https://?*/* | '') ;;
        *) mistake "EDGE_JWKS_URI is '$EDGE_JWKS_URI'; give a URL as https://issuer.example.org/keys" ;;
    esac
}

# The commit is the version, unless another one is given.
choose_tag() {
    if [ -z "${DEPLOY_TAG:-}" ]; then
        if ! DEPLOY_TAG=$(git -C "$top" rev-parse --short=12 HEAD 2>/dev/null); then
            mistake 'DEPLOY_TAG is missing, and this is no clone of git; give a version, as DEPLOY_TAG=v1.2.3'
            DEPLOY_TAG=
            return
        fi
        if [ "${SKIP_BUILD:-}" != 1 ] && [ -n "$(git -C "$top" status --porcelain 2>/dev/null)" ]; then
            mistake "DEPLOY_TAG is missing, and what is here is not what is committed; commit it, or give DEPLOY_TAG"
        fi
    fi
    case ${DEPLOY_TAG,,} in
        latest) mistake 'DEPLOY_TAG is latest, which says nothing about what runs, and cannot be gone back to; give a version' ;;
    esac
    if ! [[ $DEPLOY_TAG =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$ ]]; then
        mistake "DEPLOY_TAG is '$DEPLOY_TAG'; use up to 128 letters, digits and . _ -"
    fi
}

# Settings that have to be there, and are not those of the example.
needed() {
    local name
    for name in "$@"; do
        case ${!name} in
            '') mistake "$name is missing; give it in deploy/settings/$environment.env" ;;
            *example.com*) mistake "$name is still '${!name}', as in the example; give yours" ;;
        esac
    done
}

all_or_none() {
    local purpose=$1 name given=() missing=()
    shift
    for name in "$@"; do
        if [ -n "${!name}" ]; then given+=("$name"); else missing+=("$name"); fi
    done
    if [ ${#given[@]} -gt 0 ] && [ ${#missing[@]} -gt 0 ]; then
        mistake "${given[*]} given, and ${missing[*]} not; $purpose give all of them, or none"
    fi
}

readable() {
    local path=${!1}
    if [ -n "$path" ] && [ ! -s "$path" ]; then
        mistake "$1 names $path, which is not there, or empty"
    fi
}

whole_number() {
    local name=$1 least=$2
    if ! [[ ${!name} =~ ^[0-9]{1,6}$ ]] || [ "${!name}" -lt "$least" ]; then
        mistake "$name is '${!name}'; give a whole number, $least or more"
    fi
}
