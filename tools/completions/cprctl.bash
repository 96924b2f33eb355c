# SPDX-License-Identifier: MIT
# bash completion for cprctl: commands, their options, and the pids of what runs under cpr.

# The pids of processes that map the page of every process under cpr. No doorbell is rung for this.
_cprctl_pids() {
    local maps
    maps=$(grep -ls '/memfd:cpr\(-supervisor\)\?\.[0-9]' /proc/[0-9]*/maps 2>/dev/null)
    tr -dc '0-9\n' <<<"$maps"
}

_cprctl_services() {
    systemctl list-unit-files --type=service --no-legend --no-pager 2>/dev/null | while read -r unit _; do
        echo "$unit"
    done
}

_cprctl() {
    local cur prev command=
    cur=${COMP_WORDS[COMP_CWORD]}
    prev=${COMP_WORDS[COMP_CWORD - 1]}
    ((COMP_CWORD > 1)) && command=${COMP_WORDS[1]}

    case $command:$prev in
    restart:--exec)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    restart:--wait)
        mapfile -t COMPREPLY < <(compgen -W 'ready drained' -- "$cur")
        return
        ;;
    restart:--timeout | top:--interval)
        return
        ;;
    esac
    case $command:$cur in
    :-*)
        mapfile -t COMPREPLY < <(compgen -W '--help --version' -- "$cur")
        ;;
    :*)
        mapfile -t COMPREPLY < <(compgen -W 'ps list status restart rollback reexec top metrics dump enable disable' -- "$cur")
        ;;
    restart:-*)
        mapfile -t COMPREPLY < <(compgen -W '--timeout --exec --wait --dry-run --json --help' -- "$cur")
        ;;
    list:-*)
        mapfile -t COMPREPLY < <(compgen -W '--all --json --help' -- "$cur")
        ;;
    top:-*)
        mapfile -t COMPREPLY < <(compgen -W '--once --interval --json --help' -- "$cur")
        ;;
    metrics:-*)
        mapfile -t COMPREPLY < <(compgen -W '--help' -- "$cur")
        ;;
    enable:-*)
        mapfile -t COMPREPLY < <(compgen -W '--dry-run --now --json --help' -- "$cur")
        ;;
    disable:-*)
        mapfile -t COMPREPLY < <(compgen -W '--now --json --help' -- "$cur")
        ;;
    *:-*)
        mapfile -t COMPREPLY < <(compgen -W '--json --help' -- "$cur")
        ;;
    list:* | status:* | restart:* | rollback:* | reexec:*)
        mapfile -t COMPREPLY < <(compgen -W "$(_cprctl_pids)" -- "$cur")
        ;;
    enable:* | disable:*)
        mapfile -t COMPREPLY < <(compgen -W "$(_cprctl_services)" -- "$cur")
        ;;
    dump:*)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        ;;
    esac
}

complete -o filenames -F _cprctl cprctl
