"""The JavaScript that the tests run inside ComfyUI's page."""

from __future__ import annotations

READY = """(type) => window.app?.graph && window.LiteGraph?.registered_node_types[type]
  && app.graph.nodes.length > 0"""
LOAD = "async ([graph, name]) => { await app.loadGraphData(graph, true, true, name) }"
CONVERT = """async ([prompt, name, edits, bends]) => {
  await app.loadApiJson(prompt, name)
  for (const edit of edits) {
    let node = app.graph.getNodeById(edit.id)
    if (!node) {
      node = LiteGraph.createNode(edit.type)
      app.graph.add(node)
    }
    for (const [name, value] of Object.entries(edit.widgets ?? {}))
      node.widgets.find(w => w.name === name).value = value
    Object.assign(node.properties, edit.properties ?? {})
    if (edit.title) node.title = edit.title
    node.pos = edit.pos
    node.setSize(edit.size)
  }
  for (const [from, slot, to, points] of bends) {
    const link = [...app.graph.links.values()].find(
      link => link.origin_id == from && link.origin_slot == slot && link.target_id == to)
    for (const point of points) app.graph.createReroute(point, link)
  }
  for (const node of app.graph.nodes) {  // a page remembers values of the workflows before
    const known = node.constructor.nodeData?.input ?? {}
    for (const widget of node.widgets ?? []) {
      const linked = node.inputs?.find(input => input.widget?.name === widget.name && input.link != null)
      if (linked) widget.value = ({...known.required, ...known.optional})[widget.name]?.[1]?.default ?? ''
      else if (widget.type === 'button') widget.value = ''
    }
  }
  const graph = JSON.parse(JSON.stringify(app.graph.serialize()))  // undefined would come out as null
  for (const saved of graph.nodes) {  // newer frontends find values by these names, older ones by their order
    const widgets = app.graph.getNodeById(saved.id).widgets ?? []
    const kept = widgets.filter(w => w.serialize !== false && !['audioUI', 'video-preview'].includes(w.name))
    if (kept.length) saved.widgets_values_named = Object.fromEntries(kept.map(w => [w.name, w.value]))
  }
  return JSON.parse(JSON.stringify(graph))
}"""
WIRES = """() => [...app.canvas.graph.links.values()].flatMap(link => {
  const from = app.canvas.graph.getNodeById(link.origin_id), to = app.canvas.graph.getNodeById(link.target_id)
  if (!from || !to) return []  // from or to an end of a box
  const bends = []
  for (let id = link.parentId; id != null; id = app.canvas.graph.reroutes.get(id).parentId)
    bends.unshift(Array.from(app.canvas.graph.reroutes.get(id).pos))
  return [{
    ends: [app.canvas.graph.nodes.indexOf(from), app.canvas.graph.nodes.indexOf(to)],
    points: [Array.from(from.getOutputPos(link.origin_slot)), ...bends, Array.from(to.getInputPos(link.target_slot))],
  }]
})"""
PROMPT = "async () => JSON.parse(JSON.stringify((await app.graphToPrompt()).output))"
NODES = """() => app.canvas.graph.nodes.map(node => ({
  type: node.type,
  title: node.title,
  known: node.type in LiteGraph.registered_node_types,
  marked: !!node.has_errors,
  pictures: (node.imgs ?? []).map(image => [image.naturalWidth, image.naturalHeight]),
  box: Array.from(node.getBounding()),
}))"""
LOADED = "image => image.complete && image.naturalWidth > 0"
ACTIVE = "() => app.extensionManager.workflow.activeWorkflow?.path"
# A second workflow of the same name gets a number behind it.
OPENED = """([name, before]) => {
  const open = app.extensionManager.workflow.activeWorkflow
  return open?.path !== before && open.filename.startsWith(name)
}"""
SELECT = "type => app.canvas.selectNode(app.graph.nodes.find(node => node.type === type))"
SET = "([key, value]) => app.extensionManager.setting.set(key, value)"
SOCKETS = """title => {
  const node = app.graph.nodes.find(node => node.title === title)
  const names = slots => slots.map(slot => slot.label ?? slot.name)
  return {inputs: names(node.inputs), outputs: names(node.outputs)}
}"""
ENTER = """title => {
  const node = app.graph.nodes.find(node => node.title === title)
  app.canvas.openSubgraph(node.subgraph, node)
}"""
SEARCH = "() => app.extensionManager.command.execute('Workspace.SearchBox.Toggle')"
FIT = "() => app.extensionManager.command.execute('Comfy.Canvas.FitView')"
TOGGLE_APP = "() => app.extensionManager.command.execute('Comfy.ToggleLinear')"
CANVAS = "() => { const box = app.canvas.canvas.getBoundingClientRect(); return [box.left, box.top] }"
SHOW = """([x, y]) => {
  app.canvas.deselectAll()
  app.canvas.ds.scale = 1
  app.canvas.ds.offset = [x, y]
  app.canvas.setDirty(true, true)
}"""
END = """(seconds) => new Promise((resolve, reject) => {
  const say = (event) => reject(new Error(event.detail.exception_message ?? event.type))
  app.api.addEventListener('execution_success', () => resolve(true), {once: true})
  app.api.addEventListener('execution_error', say, {once: true})
  app.api.addEventListener('execution_interrupted', say, {once: true})
  setTimeout(() => reject(new Error(`no end of the run within ${seconds} s`)), 1000 * seconds)
})"""
RUNNING = "(seconds) => {{ const run = {{over: false}}; ({end})(seconds).finally(() => run.over = true); return run }}"
PLAYER = """() => {
  const players = [...document.querySelectorAll('audio')]
  return players.find(player => player.src.includes('type=output') && player.duration > 0)
}"""
LISTEN = """async (player) => {
  const answer = await fetch(player.src)
  const sound = await new OfflineAudioContext(2, 1, 32000).decodeAudioData(await answer.arrayBuffer())
  const peak = Math.max(...Array.from({length: sound.numberOfChannels},
    (_, i) => sound.getChannelData(i).reduce((most, x) => Math.max(most, Math.abs(x)), 0)))
  await player.play()
  const started = await new Promise(resolve => {
    player.addEventListener('timeupdate', () => player.currentTime > 0 && resolve(true))
    setTimeout(() => resolve(false), 5000)
  })
  player.pause()
  return {shown: player.duration, seconds: sound.duration, channels: sound.numberOfChannels, peak, started}
}"""
WATCH = """async () => {
  const player = [...document.querySelectorAll('video')].find(
    player => player.currentSrc.includes('type=output') && player.duration > 0)
  const answer = await fetch(player.currentSrc)
  const sound = await new OfflineAudioContext(2, 1, 48000).decodeAudioData(await answer.arrayBuffer())
  const peak = sound.getChannelData(0).reduce((most, x) => Math.max(most, Math.abs(x)), 0)
  player.muted = true
  await player.play()
  const started = await new Promise(resolve => {
    player.addEventListener('timeupdate', () => player.currentTime > 0 && resolve(true))
    setTimeout(() => resolve(false), 5000)
  })
  player.pause()
  return {seconds: player.duration, width: player.videoWidth, peak, started}
}"""
FILM = """() => [...document.querySelectorAll('video')].some(
  player => player.currentSrc.includes('type=output') && player.duration > 0)"""
DROP = """async (player) => {
  const blob = await (await fetch(player.src)).blob()
  await app.handleFile(new File([blob], 'dropped.flac', {type: 'audio/flac'}))
}"""
