# What a pod does: bring inputs in, run its tasks, bring outputs out. For any POSIX shell; needs cp, grep, sha256sum.
#   sh -c THIS qosflow COMMAND [ARGUMENT...]   without a command only the copies, or the removal, are done
# QOSFLOW_INDEXES    the tasks, each as a process of COMMAND with QOSFLOW_INDEX; QOSFLOW_AT_ONCE of them at once
# QOSFLOW_COPY_IN    copies before the tasks, and QOSFLOW_COPY_OUT after them, six lines each: source, destination,
#                    pattern of file names, `some` or `any` (may match nothing), record, head of the record
# QOSFLOW_COPY       a shell command to copy a folder instead: $1 source, $2 destination, $3 pattern
# QOSFLOW_TRY        a tier to try, three lines: its mount, how many bytes must fit, a folder of which they may be a part
# QOSFLOW_REMOVE     folders to remove, one a line
# QOSFLOW_PRINT      a folder of records to print, those of copies after the others
set -u
newline='
'

fail() {
    printf 'qosflow: %s\n' "$1" >&2
    exit 1
}

# Milliseconds since the epoch; whole seconds where date knows no fractions.
now_ms() {
    nanoseconds=$(date +%s%N)
    case $nanoseconds in
        *[!0-9]*) echo "$(date +%s)000" ;;
        *) echo $((nanoseconds / 1000000)) ;;
    esac
}

seconds() { printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)); }

digest() { sha256sum <"$1" | cut -d ' ' -f 1; }

# copy_file SOURCE TARGET: under a name that no other try uses, synced, compared, and only then under its own name.
copy_file() {
    wanted=$(digest "$1") && [ -n "$wanted" ] || fail "$1 cannot be read"
    if [ -f "$2" ] && [ "$(digest "$2")" = "$wanted" ]; then
        return
    fi
    mkdir -p "${2%/*}" || fail "${2%/*} cannot be made; is the tier mounted, and may it be written?"
    part="${2%/*}/.${2##*/}.${HOSTNAME:-pod}.$$.part"
    began=$(now_ms)
    if ! cp "$1" "$part" || ! sync "$part"; then
        rm -f "$part"
        fail "$1 cannot be copied to $2; is the tier full?"
    fi
    copy_ms=$((copy_ms + $(now_ms) - began))
    if [ "$(digest "$part")" != "$wanted" ]; then
        rm -f "$part"
        fail "the copy of $1 in ${2%/*} differs from it"
    fi
    mv -f "$part" "$2" || fail "$2 cannot be put in place"
    moved=$((moved + 1))
}

# copy_folder SOURCE DESTINATION PATTERN some|any RECORD HEAD
copy_folder() {
    [ -d "$1" ] || fail "$1: no such folder. Has the stage that writes it run, and does its tier outlive pods?"
    start_ms=$(now_ms) copy_ms=0 files=0 moved=0 bytes=0
    names=$(cd "$1" && find . ! -type d | sort) || fail "$1 cannot be listed"
    set -f
    IFS=$newline
    for name in $names; do
        name=${name#./}
        if [ -n "$3" ] && ! printf '%s\n' "${name##*/}" | grep -Eqx -e "$3"; then
            continue
        fi
        # What a try that was killed left behind.
        case ${name##*/} in .*.part) continue ;; esac
        [ -f "$1/$name" ] || fail "$1/$name is no regular file; only files can be copied"
        files=$((files + 1)) bytes=$((bytes + $(wc -c <"$1/$name")))
        [ -n "${QOSFLOW_COPY:-}" ] || copy_file "$1/$name" "$2/$name"
    done
    unset IFS
    set +f
    [ "$files" -gt 0 ] || [ "$4" = any ] || [ -z "$3" ] || fail "$1: no file matches $3. Has the stage that writes it run?"
    mkdir -p "$2" || fail "$2 cannot be made; is the tier mounted, and may it be written?"
    if [ -n "${QOSFLOW_COPY:-}" ] && [ "$files" -gt 0 ]; then
        began=$(now_ms)
        sh -c "$QOSFLOW_COPY" copy "$1" "$2" "$3" </dev/null || fail "the command to copy $1 to $2 failed"
        copy_ms=$(($(now_ms) - began)) moved=$files
    fi
    printf 'qosflow: %s files, %s bytes, from %s to %s in %s s\n' "$files" "$bytes" "$1" "$2" "$(seconds "$copy_ms")"
    record "$5" "$6"
}

# Where all files were there already, a record that says how long they took stays.
record() {
    took=$(seconds "$copy_ms")
    if [ "$moved" -eq 0 ] && [ "$files" -gt 0 ]; then
        [ ! -f "$1" ] || return 0
        took=null
    fi
    mkdir -p "${1%/*}" || fail "${1%/*} cannot be made; is the home tier mounted?"
    printf '{%s, "files": %s, "bytes": %s, "copy_s": %s, "start_s": %s, "end_s": %s}\n' "$2" "$files" "$bytes" \
        "$took" "$(seconds "$start_ms")" "$(seconds "$(now_ms)")" >"$1.${HOSTNAME:-pod}.$$.part" &&
        mv -f "$1.${HOSTNAME:-pod}.$$.part" "$1" || fail "$1 cannot be written"
}

copy_all() {
    [ -n "$1" ] || return 0
    while IFS= read -r source && IFS= read -r destination && IFS= read -r pattern && IFS= read -r amount &&
        IFS= read -r record && IFS= read -r head; do
        copy_folder "$source" "$destination" "$pattern" "$amount" "$record" "$head"
    done <<COPIES
$1
COPIES
}

# Runs the tasks in waves; every task of a wave ends, whatever became of the others.
run_tasks() {
    mkdir -p "$QOSFLOW_OUTPUT" || fail "$QOSFLOW_OUTPUT cannot be made; is the tier mounted, and may it be written?"
    at_once=0 failed='' running=''
    trap 'for pid in $running; do kill -TERM "${pid#*:}" 2>/dev/null; done; wait; exit 143' TERM INT
    for index in $QOSFLOW_INDEXES; do
        QOSFLOW_INDEX=$index "$@" </dev/null &
        running="$running $index:$!" at_once=$((at_once + 1))
        if [ "$at_once" -ge "${QOSFLOW_AT_ONCE:-1}" ]; then
            wait_for_wave
        fi
    done
    wait_for_wave
    [ -z "$failed" ] || fail "these tasks of $QOSFLOW_STAGE failed:$failed"
}

wait_for_wave() {
    for task in $running; do
        wait "${task#*:}" || failed="$failed index ${task%%:*} with code $?;"
    done
    running='' at_once=0
}

# try_tier FOLDER BYTES OUTPUT: a small file is written, synced and read back; BYTES fit beside what OUTPUT holds of them.
try_tier() {
    tried="$1/.qosflow-probe-${HOSTNAME:-pod}.$$" noise=$(head -c 16384 /dev/urandom | od -An -v -tx1)
    # Not by the shell's own printf: dash has one error for all.
    said=$( (export LC_ALL=C && mkdir -p "$1" && printf '%s' "$noise" | cat >"$tried" && sync "$tried") 2>&1)
    written=$?
    [ "$written" -ne 0 ] || [ "$(digest "$tried")" = "$(printf '%s' "$noise" | sha256sum | cut -d ' ' -f 1)" ]
    same=$?
    rm -f "$tried" 2>/dev/null
    [ "$written" -eq 0 ] || fail "$(why_not "$said")"
    [ "$same" -eq 0 ] || fail 'it is down (what was written comes back as something else)'
    free=$(df -Pk "$1" | sed -n '2s/^.* \([0-9][0-9]*\)  *[0-9-]*%.*$/\1/p') && [ -n "$free" ] || fail "it is down (df $1 says nothing)"
    used=0
    [ ! -d "$3" ] || used=$(du -sk "$3" | cut -f 1)
    needed=$(($2 / 1024 - used))
    [ "$free" -ge "$needed" ] ||
        fail "it is full: $((free / 1024)) MiB are free, and the stage writes about $((needed / 1024)) MiB"
}

# What the system said, in words: the same as those of tasks on one machine.
why_not() {
    case $1 in
        *'No space left'*) echo 'it is full (No space left on device)' ;;
        *uota*) echo 'its quota is used up (Disk quota exceeded)' ;;
        *'Read-only file system'*) echo 'it is read-only (Read-only file system)' ;;
        *'ermission denied'* | *'not permitted'*) echo 'it may not be written (Permission denied)' ;;
        *) printf 'it is down (%s)\n' "$(printf '%s' "${1##*: }" | head -n 1)" ;;
    esac
}

remove_folders() {
    while IFS= read -r folder; do
        case $folder in
            */../* | */..) fail "$folder is not removed: it leads elsewhere" ;;
            */"$QOSFLOW_RECOMMENDATION_ID" | */"$QOSFLOW_RECOMMENDATION_ID"/*) ;;
            *) fail "$folder is not removed: it is not the run's own" ;;
        esac
        rm -rf "$folder" || fail "$folder cannot be removed"
        printf 'qosflow: removed %s\n' "$folder"
    done <<FOLDERS
$1
FOLDERS
}

print_records() {
    for kind in tasks copies; do
        printf '%s%s\n' '--- ' "$kind"
        if [ "$kind" = tasks ]; then folder=$1; else folder=$1/copies; fi
        for file in "$folder"/*.json; do
            [ ! -f "$file" ] || { cat "$file" && echo; } || fail "$file cannot be read"
        done
    done
}

if [ -n "${QOSFLOW_TRY:-}" ]; then
    { IFS= read -r folder && IFS= read -r bytes && IFS= read -r output; } <<TIER
$QOSFLOW_TRY
TIER
    try_tier "$folder" "$bytes" "$output"
fi
[ -z "${QOSFLOW_PRINT:-}" ] || print_records "$QOSFLOW_PRINT"
[ -z "${QOSFLOW_REMOVE:-}" ] || remove_folders "$QOSFLOW_REMOVE"
copy_all "${QOSFLOW_COPY_IN:-}"
[ "$#" -eq 0 ] || run_tasks "$@"
copy_all "${QOSFLOW_COPY_OUT:-}"
