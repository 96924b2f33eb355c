# SPDX-License-Identifier: MIT
# bash completion for cpr-bench: options and benchmarks.

_cpr_bench() {
    local cur prev
    cur=${COMP_WORDS[COMP_CWORD]}
    prev=${COMP_WORDS[COMP_CWORD - 1]}
    [[ $cur == = ]] && cur=
    [[ $prev == = ]] && prev=${COMP_WORDS[COMP_CWORD - 2]}

    case $prev:$cur in
    --out:*)
        mapfile -t COMPREPLY < <(compgen -d -- "$cur")
        ;;
    *:-*)
        mapfile -t COMPREPLY < <(compgen -W '--json --quick --out --help --version' -- "$cur")
        ;;
    *)
        mapfile -t COMPREPLY < <(compgen -W 'lookup calls exec restart throughput' -- "$cur")
        ;;
    esac
}

complete -o filenames -F _cpr_bench cpr-bench
