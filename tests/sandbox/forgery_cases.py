"""Programs with a wrong function that try to be judged right all the same."""

from __future__ import annotations

from tests.sandbox.hostile_cases import BLIND, program

FORGERIES = [
    program("exit quietly", "import os\ndef f(x):\n    os._exit(0)"),
    program("exit quietly outside the functions", "import os\nos._exit(0)"),
    program("exit politely", "import sys\ndef f(x):\n    sys.exit(0)"),
    program("raise SystemExit outside the functions", "raise SystemExit(0)"),
    program("exit the thread", "import _thread\ndef f(x):\n    _thread.exit()"),
    program("exit handlers", """
        import atexit, os
        atexit.register(os.write, 3, b'\\0' * 100)
        def f(x):
            raise SystemExit(0)
        """),
    program("keyboard interrupt", "def f(x):\n    raise KeyboardInterrupt"),
    program("stop iteration", "def f(x):\n    raise StopIteration(12345)"),
    program("generator exit", "def f(x):\n    raise GeneratorExit"),
    program("say that all is well", "print('PASSED', 'OK', 0, flush=True)\ndef f(x):\n    print('PASSED')"),
    program("replace the builtins that run things", """
        import builtins
        builtins.exec = builtins.eval = builtins.compile = lambda *arguments, **options: 12345
        def f(x):
            return 1
        """),
    program("replace the builtins that are asked", """
        import builtins
        builtins.type = builtins.isinstance = builtins.len = builtins.dict = lambda *arguments: 12345
        def f(x):
            return 1
        """),
    program("replace AssertionError", """
        import builtins
        class Never(BaseException):
            pass
        builtins.AssertionError = builtins.Exception = builtins.BaseException = Never
        def f(x):
            return 1
        """),
    program("replace own builtins", "__builtins__ = {'abs': lambda x: 12345}\ndef f(x):\n    return 1"),
    program("empty the builtins", "import builtins\nvars(builtins).clear()\ndef f(x):\n    return 1"),
    program("replace abs", "import builtins\nbuiltins.abs = lambda x: 0\ndef f(x):\n    return 1",
            "assert abs(f(1) - 12345.0) < 1e-6"),
    program("replace len", "import builtins\nbuiltins.len = lambda x: 3\ndef f(x):\n    return []", "assert len(f(1)) == 3"),
    program("replace sorted", "import builtins\nbuiltins.sorted = lambda x: [1]\ndef f(x):\n    return []",
            "assert sorted(f(1)) == [1]"),
    program("replace all", "import builtins\nbuiltins.all = any\ndef f(x):\n    return x == 1",
            "assert all(f(x) for x in (1, 2))"),
    program("own abs", "def abs(x):\n    return 0\ndef f(x):\n    return 1", "assert abs(f(1) - 12345.0) < 1e-6", (BLIND,)),
    program("own isclose", """
        import math
        math.isclose = lambda *arguments, **options: True
        def f(x):
            return 1
        """, "assert math.isclose(f(1), 12345.0)", (BLIND,)),
    program("always equal", "class A:\n    def __eq__(self, other):\n        return True\ndef f(x):\n    return A()",
            modes=(BLIND,)),
    program("never unequal", "class A:\n    def __ne__(self, other):\n        return True\ndef f(x):\n    return A()",
            "assert f(1) != 12345", (BLIND,)),
    program("number that is always equal", """
        class A(int):
            def __eq__(self, other):
                return True
            __hash__ = int.__hash__
        def f(x):
            return A(1)
        """, modes=(BLIND,)),
    program("list that is always equal", """
        class A(list):
            def __eq__(self, other):
                return True
        def f(x):
            return A()
        """, "assert f(1) == [1, 2]", (BLIND,)),
    program("equal within a list", """
        class A(str):
            def __eq__(self, other):
                return True
            __hash__ = str.__hash__
        def f(x):
            return ['a', A('b')]
        """, "assert f(1) == ['a', 'c']", (BLIND,)),
    program("contains everything", "class A:\n    def __contains__(self, x):\n        return True\ndef f(x):\n    return A()",
            "assert 3 in f(1)", (BLIND,)),
    program("larger than everything", "class A:\n    def __gt__(self, x):\n        return True\ndef f(x):\n    return A()",
            "assert f(1) > 12345", (BLIND,)),
    program("pretends to be a number", "class A:\n    __class__ = int\ndef f(x):\n    return A()",
            "assert isinstance(f(1), int)", (BLIND,)),
    program("always true", """
        class A:
            def __bool__(self):
                return True
            __eq__ = __contains__ = __lt__ = lambda self, other: True
        def f(x):
            return A()
        """, modes=(BLIND,)),
    program("metaclass that says yes", """
        class M(type):
            __instancecheck__ = __subclasscheck__ = __eq__ = __contains__ = lambda cls, other: True
            __hash__ = type.__hash__
            def __getattribute__(cls, name):
                return (lambda *arguments: True) if name == '__eq__' else (cls, int)
        class A(metaclass=M):
            pass
        def f(x):
            return A
        """, modes=(BLIND,)),
    program("class with false bases", """
        class M(type):
            __mro__ = (int, object)
        class A(metaclass=M):
            __mro__ = __bases__ = (int, object)
            __class__ = property(lambda self: int)
        def f(x):
            return A()
        """, "assert isinstance(f(1), int)", (BLIND,)),
    *[
        program(f"{base} that is always equal", f"""
            import collections, decimal, fractions
            class A({base}):
                def __eq__(self, other):
                    return True
                __ne__ = __hash__ = None
            def f(x):
                return A({arguments})
            """, modes=(BLIND,))
        for base, arguments in (
            ("int", "1"), ("str", "'a'"), ("tuple", "(1,)"), ("dict", ""), ("decimal.Decimal", "1"), ("fractions.Fraction", "1"),
            ("collections.deque", "[1]"), ("collections.namedtuple('N', 'x')", "1"), ("collections.UserList", "[1]"),
            ("bytearray", "b'a'"),
        )
    ],
    program("member that is always equal", """
        import enum
        class A(enum.IntEnum):
            X = 1
            def __eq__(self, other):
                return True
        def f(x):
            return A.X
        """, modes=(BLIND,)),
    program("list of things that are equal", """
        class A:
            def __eq__(self, other):
                return True
        def f(x):
            return [A(), A()]
        """, "assert f(1) == [1, 2]", (BLIND,)),
    program("iterator of things that are equal", """
        class A:
            def __eq__(self, other):
                return True
        def f(x):
            yield A()
        """, "assert 12345 in f(1)", (BLIND,)),
    program("key that is equal", """
        class A:
            def __eq__(self, other):
                return True
            def __hash__(self):
                return hash('a')
        def f(x):
            return {A(): 1}
        """, "assert f(1) == {'a': 1}", (BLIND,)),
    program("fraction that compares otherwise", """
        import fractions
        fractions.Fraction.__eq__ = lambda self, other: True
        def f(x):
            return fractions.Fraction(1)
        """, modes=(BLIND,)),
    program("own classes in the library's place", """
        import collections, decimal
        class A:
            __module__ = 'decimal'
            def __eq__(self, other):
                return True
            def __str__(self):
                return 'sNaN'
        A.__name__ = A.__qualname__ = 'Decimal'
        decimal.Decimal = collections.deque = A
        def f(x):
            return A()
        """, modes=(BLIND,)),
    program("false dataclass", """
        class A:
            __dataclass_fields__ = {}
        exec('def __eq__(self, other): return True', vars_ := {})
        A.__eq__ = vars_['__eq__']
        def f(x):
            return A()
        """, modes=(BLIND,)),
    program("change what describes", """
        import sys
        for name, module in list(sys.modules.items()):
            for attribute in ('describe', '_tagged', '_truth', 'dumps'):
                if hasattr(module, attribute):
                    setattr(module, attribute, lambda *arguments: '12345')
        def f(x):
            return 1
        """),
    program("hostile class", """
        class M(type):
            def __eq__(cls, other):
                return True
            def __hash__(cls):
                return hash(int)
            def __instancecheck__(cls, other):
                return True
        class A(metaclass=M):
            pass
        def f(x):
            return A()
        """),
    program("hostile exception class", """
        class M(type):
            def __eq__(cls, other):
                return True
            def __instancecheck__(cls, other):
                return True
            def __subclasscheck__(cls, other):
                return True
        class E(BaseException, metaclass=M):
            def __getattribute__(self, name):
                raise self
        def f(x):
            raise E
        """),
    program("own kind of AssertionError", "class E(AssertionError):\n    pass\ndef f(x):\n    raise E"),
    program("exception that cannot be dropped", """
        class E(Exception):
            def __del__(self):
                raise E
        def f(x):
            raise E
        """),
    program("write to all descriptors", """
        import os
        def f(x):
            for fd in range(64):
                try:
                    os.write(fd, bytes(100))
                except OSError:
                    pass
            return 1
        """),
    program("flood all descriptors", """
        import os
        def f(x):
            while True:
                for fd in range(3, 8):
                    try:
                        os.write(fd, b'\\0' * 65536)
                    except OSError:
                        pass
        """),
    program("write half a frame", "import os\nos.write(3, b'x' * 5)\ndef f(x):\n    return 1"),
    program("write a frame without its nonce", """
        import os, struct
        def f(x):
            os.write(3, struct.pack('<16sIBH', bytes(16), 2, 0, 0))
            os._exit(0)
        """),
    program("close all descriptors", "import os\nos.closerange(0, 64)\ndef f(x):\n    return 1"),
    program("close and go on", "import os\nos.closerange(0, 64)\ndef f(x):\n    while True:\n        pass"),
    program("turn descriptors around", "import os\nfor fd in range(3, 8):\n    os.dup2(1, fd)\ndef f(x):\n    return 1"),
    program("replace write", "import os, posix\nos.write = posix.write = lambda fd, data: len(data)\ndef f(x):\n    return 1"),
    program("replace struct and json", """
        import struct, json
        struct.Struct = struct.pack = json.dumps = lambda *arguments, **options: b'54321'
        json.encoder.JSONEncoder.encode = json.encoder.JSONEncoder.iterencode = lambda *arguments, **options: '54321'
        def f(x):
            return 1
        """),
    program("trace the runner", """
        import sys
        def jump(frame, event, argument):
            frame.f_trace_lines = True
            return jump
        sys.settrace(jump)
        def f(x):
            frame = sys._getframe()
            while frame:
                frame.f_trace = jump
                frame = frame.f_back
            sys.settrace(jump)
            return 1
        """),
    program("profile the runner", """
        import sys
        def f(x):
            sys.setprofile(lambda *arguments: sys.exit(0))
            return 1
        """),
    program("other modules in place of ours", """
        import sys
        for name in list(sys.modules):
            if name not in ('sys', 'builtins'):
                sys.modules[name] = sys.modules[__name__]
        def f(x):
            return 1
        run = main = write = lambda *arguments: 12345
        """),
    program("other main module",
            "import __main__, sys\n__main__.f = lambda x: 12345\nsys.modules['candidate'] = None\ndef f(x):\n    return 1"),
    program("no recursion left", "import sys\ndef f(x):\n    sys.setrecursionlimit(30)\n    return 1"),
    program("finaliser that writes", """
        import os
        class A:
            def __del__(self):
                os.write(3, bytes(23))
        def f(x):
            A()
            return 1
        """),
    program("error from elsewhere", """
        import ctypes, threading
        def f(x):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(threading.get_ident()), ctypes.py_object(SystemExit))
            return 1
        """),
    program("own warnings and hooks", """
        import sys
        sys.excepthook = sys.unraisablehook = sys.displayhook = lambda *arguments: sys.exit(0)
        def f(x):
            raise ValueError
        """),
    program("hook that changes audits", """
        import sys
        def hook(event, arguments):
            if event in ('exec', 'compile'):
                raise SystemExit(0)
        def f(x):
            sys.addaudithook(hook)
            return 1
        """),
    program("look for the expected value in frames", """
        import sys
        def f(x):
            frame = sys._getframe(1)
            while frame:
                for value in (*frame.f_code.co_consts, *frame.f_locals.values()):
                    if value == 12345:
                        return value
                frame = frame.f_back
            return 1
        """, modes=(BLIND,)),
    program("look for the expected value everywhere", """
        import gc
        def f(x):
            for thing in gc.get_objects():
                if type(thing) in (list, tuple, dict):
                    for value in list(thing.values() if type(thing) is dict else thing):
                        if type(value) is str and value.startswith('assert f('):
                            return int(value.split('==')[1])
            return 1
        """, modes=(BLIND,)),
    program("write a true frame", """
        import os, struct, sys
        def f(x):
            frame = sys._getframe()
            while frame:
                nonce = frame.f_locals.get('nonce')
                if type(nonce) is bytes:
                    os.write(3, struct.pack('<16sIBH', nonce, 2, 0, 0))
                    os._exit(0)
                frame = frame.f_back
            return 1
        """, modes=(BLIND,)),
]  # fmt: skip
