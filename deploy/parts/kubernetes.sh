# shellcheck shell=bash
# Kubernetes: kustomize makes the manifests, `rollout` waits for them and goes back.

# What is rolled out, in this order, and what went before, as "KIND/NAME REVISION" each.
workloads=()
revisions_before=()

check_kubernetes() {
    needed KUBE_CONTEXT KUBE_NAMESPACE KUBE_EDGE_NETWORK
    workloads=(statefulset/tailwater deployment/edge)
    [ -z "$MIRROR_STREAMS" ] || workloads+=(deployment/mirror)
}

kube() {
    kubectl --context "$KUBE_CONTEXT" --namespace "$KUBE_NAMESPACE" "$@"
}

prepare_kubernetes() {
    make_kustomization "$generated/kubernetes"
    # What cannot be built is found before anything is changed.
    kubectl kustomize "$generated/kubernetes" >"$generated/manifests.yaml"
    apply_secret tailwater-tls "--from-file=tls.crt=$SERVER_CERTIFICATE_FILE" "--from-file=tls.key=$SERVER_KEY_FILE" \
        "--from-file=ca.crt=$SERVER_CA_FILE"
    apply_secret edge-tls "--from-file=tls.crt=$EDGE_CERTIFICATE_FILE" "--from-file=tls.key=$EDGE_CERTIFICATE_KEY_FILE"
    [ -z "$MIRROR_STREAMS" ] || apply_secret mirror-postgres "--from-file=url=$MIRROR_POSTGRES_URL_FILE"
}

# A secret out of files; only their paths are arguments.
apply_secret() {
    local name=$1
    shift
    if [ "${DRY_RUN:-}" = 1 ]; then
        say "would apply the secret $name: $*"
        return
    fi
    say "+ apply the secret $name: $*"
    kube create secret generic "$name" "$@" --dry-run=client --output yaml | kube apply --filename -
}

# The overlay, with what depends on this rollout.
make_kustomization() {
    local directory=$1
    mkdir -p "$directory"
    cp "$generated/edge/"* "$directory/"
    {
        cat <<YAML
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: $KUBE_NAMESPACE
resources:
  - ../../kubernetes/overlays/$environment
images:
  - { name: tailwater, newName: "$DEPLOY_IMAGE", newTag: "$DEPLOY_TAG" }
  - { name: tailwater-sync, newName: "$DEPLOY_IMAGE-sync", newTag: "$DEPLOY_TAG" }
configMapGenerator:
  - name: edge
    files: [envoy.yaml, authorize.lua, certificate.production.yaml]
  - name: tailwater-settings
    behavior: merge
    literals:
      - "DS_PROXY__TRUSTED=$KUBE_EDGE_NETWORK"
      - "DS_HTTP__CORS_ORIGINS=$SERVER_CORS_ORIGINS"
YAML
        if [ -n "$MIRROR_STREAMS" ]; then
            cat <<YAML
  - name: mirror-settings
    literals:
      - "DS_SYNC__SOURCE_URL=https://$SERVER_NAME:4437/v1/stream"
      - "DS_SYNC__STREAMS=$MIRROR_STREAMS"
components:
  - ../../kubernetes/components/mirror
YAML
        fi
    } >"$directory/kustomization.yaml"
}

roll_out_kubernetes() {
    local workload revision
    if [ "${DRY_RUN:-}" != 1 ]; then
        for workload in "${workloads[@]}"; do
            revision=$(revision_of "$workload")
            [ -z "$revision" ] || revisions_before+=("$workload $revision")
        done
    fi
    run kube apply --kustomize "$generated/kubernetes" || return 1
    for workload in "${workloads[@]}"; do
        run kube rollout status "$workload" --timeout=600s || return 1
    done
}

# The newest revision of a workload; nothing if it is not there yet.
revision_of() {
    kube rollout history "$1" 2>/dev/null | awk '$1 ~ /^[0-9]+$/ { newest = $1 } END { print newest }'
}

# Each to the revision that it had: one that has not changed stays as it is.
roll_back_kubernetes() {
    if [ ${#revisions_before[@]} -eq 0 ]; then
        echo 'deploy/deploy: nothing ran before' >&2
        return 1
    fi
    local entry result=0
    for entry in "${revisions_before[@]}"; do
        run kube rollout undo "${entry% *}" --to-revision="${entry##* }" || result=1
    done
    for entry in "${revisions_before[@]}"; do
        run kube rollout status "${entry% *}" --timeout=600s || result=1
    done
    return "$result"
}

# Secrets have no versions here, and old configurations go with what uses them.
prune_kubernetes() {
    :
}
