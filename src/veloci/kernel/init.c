/* The first process of a container that is run with --init: it starts the command in a process group of its own (the
   terminal's foreground, if there is one), passes signals on to it, reaps whatever ends, and ends as the command did:
   its exit status, or 128 + its signal; 127 if it is not there, 126 if it cannot be executed.

     init [--] COMMAND [ARG...]

   Nothing but system calls: no libc, no heap. `scripts/build-init` makes init.py of it. */

typedef long word;
typedef unsigned long set;

#if defined(__x86_64__)
enum { WRITE = 1, SIGMASK = 14, IOCTL = 16, GETPID = 39, CLONE = 56, EXECVE = 59, WAIT4 = 61, KILL = 62,
       SETPGID = 109, SIGWAIT = 128, EXIT = 231 };
__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call begin\n");
static word call(word number, word a, word b, word c, word d) {
  register word fourth __asm__("r10") = d;
  register word fifth __asm__("r8") = 0;
  word result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth)
                   : "rcx", "r11", "memory");
  return result;
}
#else
enum { IOCTL = 29, WRITE = 64, EXIT = 94, KILL = 129, SIGMASK = 135, SIGWAIT = 137, SETPGID = 154, GETPID = 172,
       CLONE = 220, EXECVE = 221, WAIT4 = 260 };
__asm__(".globl _start\n_start: mov x0, sp\n bl begin\n");
static word call(word number, word a, word b, word c, word d) {
  register word result __asm__("x0") = a;
  register word second __asm__("x1") = b;
  register word third __asm__("x2") = c;
  register word fourth __asm__("x3") = d;
  register word fifth __asm__("x4") = 0;
  register word eighth __asm__("x8") = number;
  __asm__ volatile("svc 0" : "+r"(result) : "r"(second), "r"(third), "r"(fourth), "r"(fifth), "r"(eighth) : "memory");
  return result;
}
#endif

enum { ENOENT = 2, EACCES = 13, ENOTDIR = 20, SIGCHLD = 17, SIGTTIN = 21, SIGTTOU = 22, SIG_SETMASK = 2, WNOHANG = 1,
       TIOCSPGRP = 0x5410 };

static void say(const char *text) {
  word length = 0;
  while (text[length]) length++;
  call(WRITE, 2, (word)text, length, 0);
}

static int has(const char *text, char wanted) {
  for (; *text; text++)
    if (*text == wanted) return 1;
  return 0;
}

/* Become the command; returns the exit status for the failure. */
static int become(char **argv, char **envp) {
  const char *path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  int status = 127;
  char place[4096];
  for (char **each = envp; *each; each++) {
    char *e = *each;
    if (e[0] == 'P' && e[1] == 'A' && e[2] == 'T' && e[3] == 'H' && e[4] == '=') path = e + 5;
  }
  if (has(argv[0], '/')) path = "";
  do {
    word size = 0;
    if (!has(argv[0], '/')) {
      while (*path && *path != ':' && size < 2048) place[size++] = *path++;
      if (size) place[size++] = '/';
    }
    for (char *c = argv[0]; *c && size < 4095; c++) place[size++] = *c;
    place[size] = 0;
    word error = -call(EXECVE, (word)place, (word)argv, (word)envp, 0);
    if (error != ENOENT && error != ENOTDIR) {
      status = 126;
      if (error != EACCES) break;
    }
  } while (*path++ == ':');
  return status;
}

void begin(word *stack) {
  char **argv = (char **)stack + 1, **envp = argv + stack[0] + 1;
  set all = ~0UL, before = 0;
  int status = 0, result = -1;
  argv++;
  if (argv[0] && argv[0][0] == '-' && argv[0][1] == '-' && !argv[0][2]) argv++;
  if (!argv[0]) {
    say("init: takes a command\n");
    call(EXIT, 2, 0, 0, 0);
  }
  call(SIGMASK, SIG_SETMASK, (word)&all, (word)&before, sizeof all);
  word child = call(CLONE, SIGCHLD, 0, 0, 0);
  if (child == 0) {
    int own = call(GETPID, 0, 0, 0, 0);
    call(SETPGID, 0, 0, 0, 0);
    call(IOCTL, 0, TIOCSPGRP, (word)&own, 0);
    call(SIGMASK, SIG_SETMASK, (word)&before, 0, sizeof before);
    int failed = become(argv, envp);
    say("exec: \"");
    say(argv[0]);
    say(failed == 127 ? "\": executable file not found\n" : "\": cannot be executed\n");
    call(EXIT, failed, 0, 0, 0);
  }
  if (child < 0) {
    say("init: cannot fork\n");
    call(EXIT, 125, 0, 0, 0);
  }
  while (result < 0) {
    word signal = call(SIGWAIT, (word)&all, 0, 0, sizeof all), ended;
    if (signal > 0 && signal != SIGCHLD && signal != SIGTTIN && signal != SIGTTOU) call(KILL, child, signal, 0, 0);
    while ((ended = call(WAIT4, -1, (word)&status, WNOHANG, 0)) > 0)
      if (ended == child) result = status & 0x7f ? 128 + (status & 0x7f) : (status >> 8) & 0xff;
  }
  call(EXIT, result, 0, 0, 0);
}
