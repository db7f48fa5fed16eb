#!/usr/bin/env bash
# The backend's restart script as it was, before the stack of ../../backend.yaml: it works, and is what a person writes
# who has a supervisord, eight ports and a bad evening. docs/from-supervisord.md compares the two.
#
#   BACKEND_HOME=/tmp/backend ./restart.sh [full|quick|emergency|flush|status|help] [--debug]
#
# From the environment:
#   BACKEND_HOME       socket, pid file, logs, data; short, as a socket's path has at most 100 characters. Default: ~/backend
#   BACKEND_CODE       the programs. Default: the directory above this script
#   SUPERVISORD_CONF   default: $BACKEND_HOME/supervisord.conf if there is one, else the one beside this script
#   PYTHON, SUPERVISORD, SUPERVISORCTL           default: as on PATH
#   MAIN_APP_PORT, TRADE_MANAGER_PORT and so on  default: 3000, 4000 and so on
#   SETTLE             seconds to wait after the supervisor's stop, and again after its start. Default: 3
#   FLUSH_WAIT         seconds between TERM and KILL of whoever holds a port. Default: 1

# shellcheck disable=SC2086,SC2046,SC2116  # lists of pids are split on purpose
set -u

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export BACKEND_HOME=${BACKEND_HOME:-$HOME/backend}
export BACKEND_CODE=${BACKEND_CODE:-$(dirname "$HERE")}
export PYTHON=${PYTHON:-python3}
SUPERVISORD=${SUPERVISORD:-supervisord}
SUPERVISORCTL=${SUPERVISORCTL:-supervisorctl}
SETTLE=${SETTLE:-3}
FLUSH_WAIT=${FLUSH_WAIT:-1}
STOP_WAIT=30 # seconds for the supervisor's clean stop

export MAIN_APP_PORT=${MAIN_APP_PORT:-3000}
export TRADE_MANAGER_PORT=${TRADE_MANAGER_PORT:-4000}
export ACTIVE_TRADE_SUPERVISOR_PORT=${ACTIVE_TRADE_SUPERVISOR_PORT:-6000}
export TRADE_EXECUTOR_PORT=${TRADE_EXECUTOR_PORT:-8001}
export BTC_PRICE_WATCHDOG_PORT=${BTC_PRICE_WATCHDOG_PORT:-8002}
export DB_POLLER_PORT=${DB_POLLER_PORT:-8003}
export KALSHI_ACCOUNT_SYNC_PORT=${KALSHI_ACCOUNT_SYNC_PORT:-8004}
export KALSHI_API_WATCHDOG_PORT=${KALSHI_API_WATCHDOG_PORT:-8005}

HTTP_SERVICES="main_app trade_manager active_trade_supervisor trade_executor"
BACKGROUND_SERVICES="btc_price_watchdog db_poller kalshi_account_sync kalshi_api_watchdog"
SYSTEM_PORTS="5000 7000 9000 10000" # never touched

SOCKET=$BACKEND_HOME/supervisor.sock
PID_FILE=$BACKEND_HOME/supervisord.pid
if [ -f "$BACKEND_HOME/supervisord.conf" ]; then
  CONF=${SUPERVISORD_CONF:-$BACKEND_HOME/supervisord.conf}
else
  CONF=${SUPERVISORD_CONF:-$HERE/supervisord.conf}
fi

log() { echo "[$(date +%H:%M:%S)] $*"; }
die() {
  log "ERROR: $*" >&2
  exit 1
}
ctl() { "$SUPERVISORCTL" -c "$CONF" "$@"; }

port_of() { # SERVICE
  local name
  name=$(echo "$1" | tr '[:lower:]' '[:upper:]')_PORT
  echo "${!name}"
}

# Pids that listen on a port, by whichever tool there is.
holders() { # PORT
  if command -v lsof >/dev/null; then
    lsof -nP -t -iTCP:"$1" -sTCP:LISTEN 2>/dev/null
  elif command -v ss >/dev/null; then
    ss -ltnpH "sport = :$1" | grep -o 'pid=[0-9]*' | cut -d= -f2 | sort -u
  elif command -v fuser >/dev/null; then
    fuser -n tcp "$1" 2>/dev/null | tr -s ' ' '\n' | grep -v '^$'
  else
    "$PYTHON" -S - "$1" <<'PYTHON'
import glob, os, sys

port = "%04X" % int(sys.argv[1])
rows = [line.split() for table in glob.glob("/proc/net/tcp*") for line in open(table)]
sockets = {"socket:[%s]" % row[9] for row in rows if row[1].endswith(":" + port) and row[3] == "0A"}
for link in glob.glob("/proc/[0-9]*/fd/*"):
    try:
        if os.readlink(link) in sockets:
            print(link.split("/")[2])
    except OSError:
        pass  # gone in the meantime, or somebody else's
PYTHON
  fi
}

flush_ports() {
  log "flushing ports"
  local service port pids
  for service in $HTTP_SERVICES $BACKGROUND_SERVICES; do
    port=$(port_of "$service")
    case " $SYSTEM_PORTS " in *" $port "*)
      log "  $port is a system port, not touched"
      continue
      ;;
    esac
    pids=$(holders "$port")
    [ -n "$pids" ] || continue
    log "  $port ($service) is held by" $pids
    kill $pids 2>/dev/null
    sleep "$FLUSH_WAIT"
    for pid in $pids; do
      holders "$port" | grep -qx "$pid" && kill -9 "$pid" 2>/dev/null
    done
  done
}

check_ports_free() {
  local service port pids
  for service in $HTTP_SERVICES $BACKGROUND_SERVICES; do
    port=$(port_of "$service")
    pids=$(holders "$port")
    [ -z "$pids" ] || die "port $port ($service) is still held by pid $(echo $pids)"
  done
  log "all ports are free"
}

supervisor_alive() { [ -f "$PID_FILE" ] && kill -0 "$(cat "$PID_FILE")" 2>/dev/null; }

stop_supervisor() {
  if ! supervisor_alive; then
    log "no supervisor is running"
  else
    log "stopping supervisor and services"
    ctl shutdown >/dev/null || log "supervisorctl shutdown failed"
    local waited=0
    while supervisor_alive && [ $waited -lt $STOP_WAIT ]; do
      sleep 1
      waited=$((waited + 1))
    done
    supervisor_alive && die "supervisor does not stop; try: $0 emergency"
    sleep "$SETTLE"
  fi
  rm -f "$SOCKET" "$PID_FILE"
}

kill_everything() {
  local supervisor children
  if supervisor_alive; then
    supervisor=$(cat "$PID_FILE")
    children=$(ps -o pid= --ppid "$supervisor")
    log "killing supervisor $supervisor and services" $children
    kill -9 "$supervisor" $children 2>/dev/null
    sleep "$SETTLE"
  else
    log "no supervisor is running"
  fi
  rm -f "$SOCKET" "$PID_FILE"
}

start_supervisor() {
  mkdir -p "$BACKEND_HOME/logs" "$BACKEND_HOME/data"
  log "starting supervisor"
  "$SUPERVISORD" -c "$CONF" || die "supervisord does not start; see $BACKEND_HOME/logs/supervisord.log"
  sleep "$SETTLE"
  log "starting services"
  ctl start all >/dev/null 2>&1 # those that autostart are there already
}

healthy() { # PORT
  if command -v curl >/dev/null; then
    curl -fs -m 2 -o /dev/null "http://127.0.0.1:$1/health"
  else
    "$PYTHON" -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$1/health', timeout=2)" 2>/dev/null
  fi
}

# One line a service; returns 1 if any is not up.
verify() {
  local service port pid pids states bad=0
  states=$(ctl status) || true # its exit code is 3 if one is stopped
  for service in $HTTP_SERVICES $BACKGROUND_SERVICES; do
    port=$(port_of "$service")
    pid=$(echo "$states" | sed -n "s/^$service  *RUNNING  *pid \([0-9]*\),.*/\1/p")
    pids=$(holders "$port")
    if [ -z "$pid" ]; then
      log "  FAIL $service: $(echo "$states" | grep "^$service " | tr -s ' ' || true)"
      bad=1
    elif [ -n "$pids" ] && [ "$pids" != "$pid" ]; then
      log "  FAIL $service: port $port is held by pid $(echo $pids), not by $pid"
      bad=1
    elif [[ " $HTTP_SERVICES " == *" $service "* ]] && ! healthy "$port"; then
      log "  FAIL $service: port $port does not answer"
      bad=1
    else
      log "  OK   $service: pid $pid, port $port"
    fi
  done
  return $bad
}

verified() {
  log "verifying"
  verify || die "not every service is up; logs are in $BACKEND_HOME/logs"
  log "all services are up"
}

full_restart() {
  log "MASTER RESTART: full"
  flush_ports # the supervisor starts again at once what this ends of its own,
  stop_supervisor
  flush_ports # so look once more when it is gone
  check_ports_free
  start_supervisor
  verified
}

quick_restart() {
  log "MASTER RESTART: quick"
  stop_supervisor
  check_ports_free
  start_supervisor
  verified
}

emergency_restart() {
  log "MASTER RESTART: emergency"
  kill_everything
  flush_ports
  check_ports_free
  start_supervisor
  verified
}

status() {
  if supervisor_alive; then log "supervisor: pid $(cat "$PID_FILE")"; else log "supervisor: not running"; fi
  verify
}

usage() { sed -n '5,15s/^# //p' "${BASH_SOURCE[0]}"; }

MODE=full
for argument in "$@"; do
  case "$argument" in
  --debug) set -x ;;
  *) MODE=$argument ;;
  esac
done

case "$MODE" in
full | master) full_restart ;;
quick) quick_restart ;;
emergency | force) emergency_restart ;;
flush) flush_ports ;;
status) status ;;
help | -h | --help) usage ;;
*)
  usage
  die "unknown mode: $MODE"
  ;;
esac
