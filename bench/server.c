/* SPDX-License-Identifier: MIT */
// server: starts and ends a peer that is a process of its own.
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int unix_connect(const char *path) {
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof to.sun_path)
        fail("%s: too long for a unix socket", path);
    memcpy(to.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    need(fd >= 0, "socket");
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
        return fd;
    (void)close(fd);
    return -1;
}

static void become(char *const argv[], pid_t parent) {
    int null = open("/dev/null", O_RDWR);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent || null < 0)
        _exit(127);
    for (int fd = 0; fd < 3; fd++)
        if (dup2(null, fd) < 0)
            _exit(127);
    (void)execvp(argv[0], argv);
    _exit(127);
}

int server_start(const char *path, char *const argv[]) {
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        become(argv, parent);
    need(pid > 0, "fork");
    for (int tries = 0; tries < 5000; tries++) { // 5 s
        int fd = unix_connect(path), status;
        if (fd >= 0) {
            (void)close(fd);
            return pid;
        }
        if (waitpid(pid, &status, WNOHANG) == pid)
            fail("%s did not start: ended with %d", argv[0], WEXITSTATUS(status));
        (void)nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    }
    fail("%s did not start in 5 s", argv[0]);
}

void server_stop(int pid) {
    (void)kill(pid, SIGTERM);
    (void)waitpid(pid, NULL, 0);
}
