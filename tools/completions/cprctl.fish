# SPDX-License-Identifier: MIT
# fish completion for cprctl

function __cprctl_pids
    grep -ls '/memfd:cpr\(-supervisor\)\?\.[0-9]' /proc/[0-9]*/maps 2>/dev/null | string replace -ra '[^0-9]' ''
end

function __cprctl_services
    systemctl list-unit-files --type=service --no-legend --no-pager 2>/dev/null | string replace -r ' .*' ''
end

set -l commands ps list status restart rollback reexec top metrics dump enable disable
complete -c cprctl -f
complete -c cprctl -n "not __fish_seen_subcommand_from $commands" -s h -l help -d 'help'
complete -c cprctl -n "not __fish_seen_subcommand_from $commands" -s V -l version -d 'the version'
complete -c cprctl -n "not __fish_seen_subcommand_from $commands" -a "$commands"
complete -c cprctl -n "__fish_seen_subcommand_from $commands" -l help -d 'help'
complete -c cprctl -n "__fish_seen_subcommand_from $commands; and not __fish_seen_subcommand_from metrics" -l json -d 'says it in JSON'
complete -c cprctl -n "__fish_seen_subcommand_from list status restart rollback reexec" -a '(__cprctl_pids)'
complete -c cprctl -n "__fish_seen_subcommand_from restart" -l timeout -x -d 'how long to wait'
complete -c cprctl -n "__fish_seen_subcommand_from restart" -l exec -r -F -d 'starts this program instead'
complete -c cprctl -n "__fish_seen_subcommand_from restart" -l wait -x -a 'ready drained' -d 'for what'
complete -c cprctl -n "__fish_seen_subcommand_from list" -l all -d 'every descriptor, and why'
complete -c cprctl -n "__fish_seen_subcommand_from top" -l once -d 'one table'
complete -c cprctl -n "__fish_seen_subcommand_from top" -l interval -x -d 'how often it looks'
complete -c cprctl -n "__fish_seen_subcommand_from enable disable" -a '(__cprctl_services)'
complete -c cprctl -n "__fish_seen_subcommand_from enable" -l dry-run -d 'only shows it'
complete -c cprctl -n "__fish_seen_subcommand_from enable disable" -l now -d 'restarts the service too'
complete -c cprctl -n "__fish_seen_subcommand_from dump" -F
