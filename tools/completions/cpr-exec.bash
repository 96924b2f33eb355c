# SPDX-License-Identifier: MIT
# bash completion for cpr-exec: its own options, then the command's completion.

_cpr_exec() {
    local cur prev i word
    local with_value=' -m --mode -k --keep -x --drop -c --carry -f --rules -d --drain -g --grace -p --pidfile -u --unlink
        -t --test --ready-timeout --retire-signal --restart-signal --io-uring -l --log
        --ready-http --ready-command --graceful-signal --generations --rollback --crash-limit --watch --attach --adopt --canary --stop-timeout '
    cur=${COMP_WORDS[COMP_CWORD]}
    prev=${COMP_WORDS[COMP_CWORD - 1]}

    # behind the first word that is neither an option nor an option's value, it is the command's turn
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $word == -- ]]; then
            ((i++))
            break
        elif [[ $word != -* ]]; then
            break
        elif [[ $with_value == *[[:space:]]"$word"[[:space:]]* ]]; then
            ((i++))
            [[ ${COMP_WORDS[i]} == = ]] && ((i++))
        fi
    done
    if ((i < COMP_CWORD)); then
        if declare -F _command_offset >/dev/null; then
            _command_offset "$i"
        else
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        fi
        return
    fi

    [[ $cur == = ]] && cur=
    [[ $prev == = ]] && prev=${COMP_WORDS[COMP_CWORD - 2]}
    case $prev in
    -m | --mode)
        mapfile -t COMPREPLY < <(compgen -W 'exec handover' -- "$cur")
        ;;
    -f | --rules | -p | --pidfile | -u | --unlink | --watch)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        ;;
    --retire-signal | --restart-signal | --graceful-signal)
        mapfile -t COMPREPLY < <(compgen -A signal -- "$cur")
        ;;
    -l | --log)
        mapfile -t COMPREPLY < <(compgen -W 'error warn info debug' -- "$cur")
        ;;
    --io-uring)
        mapfile -t COMPREPLY < <(compgen -W 'deny allow' -- "$cur")
        ;;
    -k | --keep | -x | --drop | -c | --carry)
        mapfile -t COMPREPLY < <(compgen -W 'tcp: udp: unix: dev: fifo: file: memfd:' -- "$cur")
        ;;
    -t | --test | --ready-command)
        mapfile -t COMPREPLY < <(compgen -c -- "$cur")
        ;;
    -d | --drain | -g | --grace | --ready-timeout | --ready-http | --generations | --rollback | --canary | --crash-limit | --stop-timeout) ;;
    *)
        if [[ $cur == -* ]]; then
            mapfile -t COMPREPLY < <(compgen -W '--mode --keep --drop --carry --no-carry --rules --drain --grace --pidfile
                --unlink --test --ready-timeout --retire-signal --restart-signal --io-uring --ready-http
                --ready-command --graceful-signal --one-at-a-time --no-defaults --generations --rollback --canary --fdstore --stop-timeout --crash-limit --watch --attach --adopt --dry-run --log --check --help --version' -- "$cur")
        else
            mapfile -t COMPREPLY < <(compgen -c -- "$cur")
        fi
        ;;
    esac
}

complete -o filenames -o bashdefault -F _cpr_exec cpr-exec
