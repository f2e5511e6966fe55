"""A matmul at the soc level, by hand: double-buffered loads and stores on one engine, with parts that can be broken."""

import pytest
from tilewright.compiler.dialects import soc, tile
from tilewright.compiler.ir import (
    TOKEN,
    Block,
    Builder,
    Func,
    Location,
    MemRefType,
    Module,
    Return,
    Symbol,
    TileType,
    contiguous_strides,
    verify,
)

DTYPE_BYTES = {"f16": 2, "f32": 4}


def memref(shape, dtype, space="dram"):
    return MemRefType(shape, dtype, contiguous_strides(shape), 0, space)


def matmul_program(m=13, n=10, k=17, tiles=(4, 3, 5), slots=2, drop=(), addresses=None, waits=True):
    """y[m, n] = x[m, k] w[n, k]^T in f16 with f32 accumulation.

    `drop` names tokens to leave out: of the waits of a command ("mac.x" is the mac's wait for its x block, "x.free" the
    load's wait for its slot), "store" from the task's end. `addresses` moves buffers ("x", "w", "acc", "y").
    """
    tm, tn, tk = tiles
    module = Module()
    main = module.body.append(Func(regions=[Block()], sym_name="main"))
    b = Builder(main.body)
    sizes = {"x": (m, k), "w": (n, k), "y": (m, n)}
    dram, at = {}, 0
    for i, (name, role) in enumerate({"x": "input", "w": "input", "y": "output"}.items()):
        kind = memref(sizes[name], "f16")
        dram[name] = b.add(soc.Buffer(address=at, role=role, index=i % 2, result_types=[kind])).result
        at += -(-kind.bytes // 64) * 64
    region = Block([TOKEN], ["start"])
    launch = b.add(soc.Launch(engine=Symbol("ane"), regions=[Block()], result_types=[TOKEN]))
    where = Location("net.py", 3, 0, "fc", "linear")
    task = launch.body.append(soc.Task(regions=[region], label="fc", macs=m * n * k, location=where))
    launch.body.append(soc.Yield(task.result))
    if waits:
        b.add(soc.Wait(launch.result))
    b.add(Return(dram["y"]))

    t = Builder(region)
    kinds = {
        "x": memref((tm, tk), "f16", "ane.l2"), "w": memref((tn, tk), "f16", "ane.wbuf"),
        "acc": memref((tm, tn), "f32", "ane.acc"), "y": memref((tm, tn), "f16", "ane.l2"),
    }  # fmt: skip
    access = {"x": ("m", "k"), "w": ("n", "k"), "acc": ("m", "n"), "y": ("m", "n")}
    depth = {"x": 3, "w": 3, "acc": 2, "y": 2}
    slot = {name: -(-kind.bytes // 64) * 64 for name, kind in kinds.items()}
    place = {"x": 0, "w": 0, "acc": 0, "y": slots * slot["x"], **(addresses or {})}
    chip = {}
    for name, kind in kinds.items():
        count = 1 if name == "acc" else slots
        buffer = soc.Buffer(address=place[name], slots=count, slot_bytes=slot[name], depth=depth[name],
                            access=access[name], result_types=[kind])  # fmt: skip
        chip[name] = t.add(buffer).result

    def waits_for(command, **tokens):
        return [token for name, token in tokens.items() if f"{command}.{name}" not in drop]

    def loop(block, dim, size, cut, inits, fill):
        body = Block([TOKEN] * len(inits))
        body.append(soc.Yield(*fill(body, body.args)))
        return block.append(soc.For(*inits, dim=dim, size=size, tile=cut, regions=[body])).results

    def step(block, tokens):
        x0, x1, w0, w1, acc, *ys = tokens
        lx = block.append(
            soc.Copy(dram["x"], chip["x"], *waits_for("x", free=x0), unit=Symbol("ane.load"), access=("m", "k"))
        )
        lw = block.append(
            soc.Copy(dram["w"], chip["w"], *waits_for("w", free=w0), unit=Symbol("ane.weights"), access=("n", "k"))
        )
        body = Block([TileType(kinds[i].shape, kinds[i].dtype, kinds[i].space) for i in ("x", "w", "acc")])
        total = body.append(tile.Matmul(*body.args, transpose_b=True))
        body.append(tile.Yield(total.result))
        ready = waits_for("mac", x=lx.result, w=lw.result, acc=acc)
        blocks = (chip["x"], chip["w"], chip["acc"], chip["acc"])
        mac = soc.Exec(*blocks, *ready, unit=Symbol("ane.mac"), reads=3, writes=1, regions=[body],
                       inits=("none", "none", 0.0), reductions=("k",))  # fmt: skip
        block.append(mac)
        return [x1, mac.result, w1, mac.result, mac.result, *ys]

    def columns(block, tokens):
        *loads, mac, y0, y1 = loop(block, "k", k, tk, tokens, step)
        body = Block([TileType((tm, tn), "f32", "ane.acc")])
        rounded = body.append(tile.on_blocks("cast")(body.args[0], to="f16"))
        body.append(tile.Yield(rounded.result))
        ready = waits_for("vec", acc=mac, free=y0)
        vec = soc.Exec(chip["acc"], chip["y"], *ready, unit=Symbol("ane.vec"), reads=1, writes=1, regions=[body])
        block.append(vec)
        ready = waits_for("store", y=vec.result)
        store = soc.Copy(chip["y"], dram["y"], *ready, unit=Symbol("ane.store"), access=("m", "n"))
        block.append(store)
        return [*loads, vec.result, y1, store.result]

    def rows(block, tokens):
        return loop(block, "n", n, tn, tokens, columns)

    ends = loop(region, "m", m, tm, [region.args[0]] * 7, rows)
    region.append(soc.Yield(*([] if "end.y" in drop else [ends[6]])))
    verify(module)
    return module


@pytest.fixture
def soc_matmul():
    return matmul_program
