/* A program for the launcher to start in place of the real one: does what the file inputs/act says.
   Its log is what is its stdin, as the launcher arranges it. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

extern char **environ;
static char root[4096] = "/data";
/* Where it says what was possible: a file of the outputs, since the log has lines of its own only. */
static int findings = -1;

static const char *at(const char *name) {
  static char path[8192];
  if (name[0] == '/') return name;
  snprintf(path, sizeof path, "%s/%s", root, name);
  return path;
}

static void say(const char *what, long result) {
  dprintf(findings, "%s: %s\n", what, result < 0 ? strerror(errno) : "done");
}

static void *rename_thread(void *unused) {
  int file = open("/proc/self/task", O_RDONLY | O_DIRECTORY);
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%ld/comm", (long)syscall(SYS_gettid));
  int comm = open(path, O_RDWR);
  say("name a thread", comm < 0 || file < 0 ? -1 : write(comm, "named", 5));
  return unused;
}

static void report(void) {
  findings = open(at("outputs/report"), O_WRONLY | O_CREAT | O_EXCL, 0644);
  for (char **variable = environ; *variable; variable++) dprintf(findings, "variable %s\n", *variable);
  struct rlimit core, size, files;
  getrlimit(RLIMIT_CORE, &core);
  getrlimit(RLIMIT_FSIZE, &size);
  getrlimit(RLIMIT_NOFILE, &files);
  dprintf(findings, "limits: core %ld, size %ld, files %ld\n", (long)core.rlim_max, (long)(size.rlim_max >> 30),
          (long)files.rlim_max);
  say("read an input", open(at("inputs/act"), O_RDONLY));
  say("list the inputs", open(at("inputs"), O_RDONLY | O_DIRECTORY));
  say("read a log of the node", open(at("logs/image.log"), O_RDONLY));
  say("list the root", open(at(""), O_RDONLY | O_DIRECTORY));
  say("read the users", open("/etc/passwd", O_RDONLY));
  say("read the launcher's variables", open("/proc/1/environ", O_RDONLY));
  say("read the memory's size", open("/proc/meminfo", O_RDONLY));
  say("write an input", open(at("inputs/act"), O_WRONLY));
  say("make an input", open(at("inputs/new"), O_WRONLY | O_CREAT | O_EXCL, 0600));
  say("make a file in the root", open(at("new"), O_WRONLY | O_CREAT | O_EXCL, 0600));
  say("make an output", open(at("outputs/new"), O_WRONLY | O_CREAT | O_EXCL, 0600));
  say("read an output", open(at("outputs/new"), O_RDONLY));
  say("make a link", symlink("/etc/passwd", at("outputs/link")));
  say("make a folder", mkdir(at("outputs/folder"), 0700));
  say("make a pipe", mkfifo(at("outputs/pipe"), 0600));
  say("make a temporary file", open(at(".tmp-stylegan2-c2d/new"), O_WRONLY | O_CREAT | O_EXCL, 0600));
  char from[8192];
  strcpy(from, at(".tmp-stylegan2-c2d/new"));
  say("rename it", rename(from, at("outputs/renamed")));
  strcpy(from, at("inputs/act"));
  say("move an input", rename(from, at("outputs/act")));
  say("link an input", link(from, at("outputs/act")));
  pthread_t thread;
  pthread_create(&thread, NULL, rename_thread, NULL);
  pthread_join(thread, NULL);
  say("socket AF_UNIX", socket(AF_UNIX, SOCK_STREAM, 0));
  say("socket AF_INET", socket(AF_INET, SOCK_DGRAM, 0));
  say("socket AF_INET6", socket(AF_INET6, SOCK_DGRAM, 0));
  say("socket AF_NETLINK", socket(AF_NETLINK, SOCK_RAW, 0));
  say("socket AF_PACKET", socket(AF_PACKET, SOCK_RAW, 0));
  say("ptrace", ptrace(PTRACE_TRACEME, 0, NULL, NULL));
  say("process_vm_readv", syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0));
  say("io_uring_setup", syscall(SYS_io_uring_setup, 1, NULL));
#ifdef __x86_64__
  say("ptrace by its other number", syscall(0x40000000 + 521, PTRACE_TRACEME, 0, NULL, NULL));
  say("socket by its other number", syscall(0x40000000 + SYS_socket, AF_INET, SOCK_DGRAM, 0));
#endif
  execl("/bin/sh", "sh", "-c", "exit 7", NULL);
  say("another program", -1);
}

static void on_term(int signal) {
  (void)signal;
  dprintf(0, "done: 9 kimg\n");
  _exit(0);
}

int main(int num, char **arguments) {
  char act[32] = "";
  for (int i = 1; i + 1 < num; i++)
    if (!strcmp(arguments[i], "--root")) strncpy(root, arguments[i + 1], sizeof root - 1);
  int file = open(at("inputs/act"), O_RDONLY);
  if (read(file, act, sizeof act - 1) < 0) return 99;
  if (!strcmp(act, "report")) report();
  if (!strcmp(act, "noise")) {
    dprintf(0, "done: 1 kimg\n\x1b[31mred\nsecret\n\xc3\xa9\ndone: %03000d kimg\n", 1);
    dprintf(1, "done: 3 kimg\n");
    dprintf(2, "done: 4 kimg\nwithout an end");
    dprintf(0, "done: 2 kimg\ndone: 5 kimg");
  }
  if (!strcmp(act, "flood"))
    for (int i = 0; i < 100000; i++) dprintf(0, "done: %079d kimg\n", i);
  if (!strcmp(act, "elsewhere")) /* an error where files are confined, and may be written all the same */
    return open("/etc/passwd", O_RDONLY) < 0 && open(at("outputs/new"), O_WRONLY | O_CREAT, 0600) >= 0;
  if (!strcmp(act, "kill")) kill(getpid(), SIGKILL);
  if (!strncmp(act, "exit ", 5)) return atoi(act + 5);
  if (!strcmp(act, "wait")) signal(SIGTERM, on_term);
  if (!strcmp(act, "wait") || !strcmp(act, "deaf")) {
    dprintf(0, "self-test: %d ops agree with the processor, 1 s\n", getpid());
    for (;;) pause();
  }
  return 0;
}
