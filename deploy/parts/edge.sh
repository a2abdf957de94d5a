# shellcheck shell=bash
# The configuration of Envoy for production, with what the settings say.

# Makes envoy.yaml and the two files that it names, in a directory.
fill_in_edge() {
    local directory=$1 host address
    host=${EDGE_JWKS_URI#https://}
    host=${host%%/*}
    local port=443
    case $host in
        *:*) port=${host##*:} host=${host%:*} ;;
    esac
    case $target in
        fly) address=$FLY_APP.internal ;;
        *) address=tailwater ;;
    esac
    mkdir -p "$directory"
    "$here/fill-edge" "$top/envoy/envoy.production.yaml" \
        "issuer=$EDGE_ISSUER" "audiences=[$EDGE_AUDIENCES]" "jwks_uri=$EDGE_JWKS_URI" "jwks_host=$host" \
        "jwks_port=$port" "server_address=$address" "server_name=$SERVER_NAME" >"$directory/envoy.yaml"
    cp "$top/envoy/authorize.lua" "$directory/"
    # A directory that is mounted for the certificate alone: Envoy watches it for new ones.
    sed 's|/etc/tailwater-edge/certificate|/etc/tailwater-edge-certificate|' "$top/envoy/certificate.production.yaml" \
        >"$directory/certificate.production.yaml"
}
