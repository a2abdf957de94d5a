# shellcheck shell=bash
# Whether what was rolled out is well, as clients see it.

is_healthy() {
    if [ "${SKIP_HEALTHCHECK:-}" = 1 ]; then
        say 'whether it is well was not looked at (SKIP_HEALTHCHECK)'
        return 0
    fi
    local ask=(curl --fail --silent --show-error --max-time 5 --output /dev/null)
    if [ -n "$HEALTHCHECK_CA_FILE" ]; then
        ask+=(--cacert "$HEALTHCHECK_CA_FILE")
    fi
    ask+=("$HEALTHCHECK_URL")
    if [ "${DRY_RUN:-}" = 1 ]; then
        say "would ask up to $HEALTHCHECK_ATTEMPTS times, $HEALTHCHECK_INTERVAL_SECS s apart: ${ask[*]}"
        return 0
    fi
    local attempt
    for ((attempt = 1; attempt <= HEALTHCHECK_ATTEMPTS; attempt++)); do
        if "${ask[@]}"; then
            say "$HEALTHCHECK_URL is well"
            return 0
        fi
        [ "$attempt" -eq "$HEALTHCHECK_ATTEMPTS" ] || sleep "$HEALTHCHECK_INTERVAL_SECS"
    done
    echo "deploy/deploy: $HEALTHCHECK_URL was not well $HEALTHCHECK_ATTEMPTS times" >&2
    return 1
}
