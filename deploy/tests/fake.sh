#!/bin/bash
# One of the programs of fakes.py: keeps what it is asked, and answers by rules.
#
#   fake.sh DIRECTORY NAME ARGUMENT...
set -euo pipefail

directory=$1 name=$2
shift 2
command="$name $*"
# Several lines of one argument are one line of the list.
printf '%s\n' "${command//$'\n'/ }" >>"$directory/asked"

case $command in
    *' -' | *--password-stdin* | *' import '*) cat >"$directory/inputs/$(wc -l <"$directory/asked" | tr -d ' ')" ;;
esac

if [ "${command#kubectl kustomize }" != "$command" ]; then
    [ -n "${REAL_KUBECTL:-}" ] || exit 0
    "$REAL_KUBECTL" "$@" | tee "$directory/manifests.yaml"
    exit
fi

number=0
while read -r code pattern; do
    if [[ $command =~ $pattern ]]; then
        cat "$directory/output.$number"
        exit "$code"
    fi
    number=$((number + 1))
done <"$directory/rules"
